#include "balance/source_hash.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <utility>

namespace poise::balance {

std::vector<std::uint64_t> member_keys(const Group& group) {
  std::vector<std::size_t> order(group.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return group[a]->address < group[b]->address; });
  std::vector<std::uint64_t> keys(group.size());
  std::uint64_t same = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const Address& address = group[order[i]]->address;
    same = i > 0 && group[order[i - 1]]->address == address ? same + 1 : 0;
    keys[order[i]] = mix(hash_endpoint(address) + same);
  }
  return keys;
}

SourceHash::SourceHash(Group group) : group_(std::move(group)), keys_(member_keys(group_)) {
  weighted_ = std::any_of(group_.begin(), group_.end(), [&](const Member* member) {
    return member->weight != group_.front()->weight;
  });
}

const Member* SourceHash::best_open(Search& search, std::uint64_t source) const {
  const Member* best = nullptr;
  std::uint64_t best_score = 0;
  for (std::size_t i = 0; i < group_.size(); ++i) {
    const std::uint64_t score = mix(source ^ keys_[i]);
    if ((best == nullptr || score > best_score) && search.open(*group_[i])) {
      best = group_[i];
      best_score = score;
    }
  }
  return best;
}

/// -ln(u) / weight of a uniform u is exponentially distributed with rate `weight`, and of such
/// numbers the smallest is each one's in proportion to its rate (Mosharraf et al., "Weighted
/// distributed hash tables", 2005, logarithmic method).
const Member* SourceHash::best_open_weighted(Search& search, std::uint64_t source) const {
  const Member* best = nullptr;
  double best_distance = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < group_.size(); ++i) {
    const double uniform = (static_cast<double>(mix(source ^ keys_[i]) >> 11) + 0.5) * 0x1p-53;
    // -ln(u) >= 1 - u: spares nearly every logarithm but the first few.
    if (1 - uniform >= best_distance * group_[i]->weight) continue;
    const double distance = -std::log(uniform) / group_[i]->weight;
    if (distance < best_distance && search.open(*group_[i])) {
      best = group_[i];
      best_distance = distance;
    }
  }
  return best;
}

const Member* SourceHash::pick(Search& search) const {
  const std::uint64_t source = hash_ip(search.request.source);
  for (int lap = 0; lap < kLapsMax; ++lap) {
    const Member* best = weighted_ ? best_open_weighted(search, source) : best_open(search, source);
    if (best == nullptr) return nullptr;
    if (search.take(*best)) return best;
  }
  return share_out(group_, search, source);
}

}  // namespace poise::balance
