#include "balance/round_robin.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "poise/check.h"

namespace poise::balance {
namespace {

/// Spill positions used up before all members are looked at: most of the weight is tried or full.
constexpr int kPositionsAsked = 6;

void divide_by_common_divisor(std::vector<std::uint64_t>& weights) {
  std::uint64_t divisor = 0;
  for (const std::uint64_t weight : weights) divisor = std::gcd(divisor, weight);
  for (std::uint64_t& weight : weights) weight /= divisor;
}

std::vector<std::uint64_t> reduced(std::span<const std::uint32_t> weights,
                                   std::size_t entries_max) {
  std::vector<std::uint64_t> result(weights.begin(), weights.end());
  divide_by_common_divisor(result);
  const std::uint64_t sum = std::accumulate(result.begin(), result.end(), std::uint64_t{0});
  if (sum <= entries_max) return result;
  // Rounding up to one entry can add one a member: leave room for it.
  const std::uint64_t target = entries_max - result.size();
  for (std::uint64_t& weight : result) weight = std::max<std::uint64_t>(1, weight * target / sum);
  divide_by_common_divisor(result);
  return result;
}

/// Members of equal weight, which take turns among themselves. Working on these instead of on
/// members makes building a table of S entries cost S x distinct weights (their sum bounds them:
/// 361 in 65,536), not S x members.
struct WeightClass {
  std::int64_t weight;
  std::vector<std::uint16_t> members;  ///< ascending
  std::size_t next = 0;                ///< whose turn it is
  std::int64_t current_fresh =
      0;  ///< "current weight" of those whose turn is still to come in this lap

  [[nodiscard]] std::uint16_t front() const { return members[next]; }
};

}  // namespace

std::vector<std::uint16_t> smooth_period(std::span<const std::uint32_t> weights,
                                         std::size_t entries_max) {
  CHECK(!weights.empty() && weights.size() < entries_max && weights.size() <= kMembersMax);
  const std::vector<std::uint64_t> parts = reduced(weights, entries_max);
  const auto sum = std::accumulate(
      parts.begin(), parts.end(), std::int64_t{0},
      [](std::int64_t a, std::uint64_t b) { return a + static_cast<std::int64_t>(b); });

  std::vector<std::uint16_t> order(parts.size());
  std::iota(order.begin(), order.end(), std::uint16_t{0});
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return parts[a] < parts[b]; });
  std::vector<WeightClass> classes;
  for (const std::uint16_t member : order) {
    const auto weight = static_cast<std::int64_t>(parts[member]);
    if (classes.empty() || classes.back().weight != weight) classes.push_back({weight, {}});
    classes.back().members.push_back(member);
  }

  // Each step everybody's current weight grows by its weight; the largest (first member in case of
  // a tie) is taken and pays the sum. In a class those not yet taken in this lap lead the rest by
  // exactly `sum`.
  std::vector<std::uint16_t> period;
  period.reserve(static_cast<std::size_t>(sum));
  for (std::int64_t step = 0; step < sum; ++step) {
    WeightClass* best = nullptr;
    for (WeightClass& candidate : classes) {
      candidate.current_fresh += candidate.weight;
      if (best == nullptr || candidate.current_fresh > best->current_fresh ||
          (candidate.current_fresh == best->current_fresh && candidate.front() < best->front())) {
        best = &candidate;
      }
    }
    period.push_back(best->front());
    if (++best->next == best->members.size()) {
      best->next = 0;
      best->current_fresh -= sum;
    }
  }
  return period;
}

RoundRobin::RoundRobin(Group group) : group_(std::move(group)) {
  std::vector<std::uint32_t> weights;
  weights.reserve(group_.size());
  for (const Member* member : group_) weights.push_back(member->weight);
  period_ = smooth_period(weights);
}

const Member* RoundRobin::pick(Search& search) const {
  if (search.first) {
    const std::uint64_t turn = search.state.cursor.fetch_add(1, std::memory_order_relaxed);
    const Member* member = group_[period_[turn % period_.size()]];
    if (search.take(*member)) return member;
  }
  // A position that falls to somebody tried or full is used up, and the next one taken: so each
  // position of a member that works serves exactly one session, and what the others cannot serve is
  // shared by weight, however many are dead or full. Rescaling one position to the weight still
  // open does not do: which members a session has tried depends on the positions before, and the
  // correlation cost one of three live members an eighth of its share.
  for (int asked = 0; asked < kPositionsAsked; ++asked) {
    const std::uint64_t position = search.state.spill.fetch_add(1, std::memory_order_relaxed);
    const Member* member = group_[period_[scale(golden(position), period_.size())]];
    if (search.take(*member)) return member;
  }
  return share_out_next(group_, search);
}

}  // namespace poise::balance
