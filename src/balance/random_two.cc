#include "balance/random_two.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace poise::balance {
namespace {

/// Draws that may fall on somebody tried, full or already drawn before all members are looked at.
constexpr int kDrawsMax = 6;

}  // namespace

RandomTwo::RandomTwo(Group group) : group_(std::move(group)) {
  std::uint64_t end = 0;
  ends_.reserve(group_.size());
  for (const Member* member : group_) ends_.push_back(end += member->weight);
}

/// Drawing again until it fits leaves the others' chances in proportion, and seldom costs more than
/// one binary search.
const Member* RandomTwo::draw_open(Search& search, std::uint64_t fraction,
                                   const Member* except) const {
  for (int i = 0; i < kDrawsMax; ++i) {
    const std::uint64_t position = scale(fraction, ends_.back());
    const auto index = std::upper_bound(ends_.begin(), ends_.end(), position) - ends_.begin();
    const Member* member = group_[static_cast<std::size_t>(index)];
    if (member != except && search.open(*member)) return member;
    fraction = mix(fraction);
  }
  return draw(group_, search, fraction, except);
}

const Member* RandomTwo::pick(Search& search) const {
  const std::uint64_t fraction_a = mix(search.request.random);
  const std::uint64_t fraction_b = mix(~fraction_a);
  const Member* a = draw_open(search, fraction_a, nullptr);
  if (a == nullptr) return nullptr;
  const Member* b = draw_open(search, fraction_b, a);
  if (b != nullptr && Load(*b) < Load(*a)) std::swap(a, b);
  if (search.take(*a)) return a;
  if (b != nullptr && search.take(*b)) return b;
  return share_out(group_, search, mix(~fraction_b));
}

}  // namespace poise::balance
