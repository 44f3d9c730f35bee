#include "balance/group.h"

#include <cstddef>

namespace poise::balance {
namespace {

/// Index of the drawn member; group.size(): none is open.
std::size_t draw_index(const Group& group, Search& search, std::uint64_t fraction,
                       const Member* except) {
  std::uint64_t weight_open = 0;
  for (const Member* member : group) {
    if (member != except && search.open(*member)) weight_open += member->weight;
  }
  std::size_t last = group.size();
  std::uint64_t rest = scale(fraction, weight_open);
  for (std::size_t i = 0; i < group.size() && weight_open != 0; ++i) {
    const Member& member = *group[i];
    if (&member == except || !search.open(member)) continue;
    last = i;
    if (rest < member.weight) break;
    rest -= member.weight;
  }
  return last;  // when somebody filled up between the two passes: the last one seen open
}

}  // namespace

const Member* draw(const Group& group, Search& search, std::uint64_t fraction,
                   const Member* except) {
  const std::size_t index = draw_index(group, search, fraction, except);
  return index < group.size() ? group[index] : nullptr;
}

const Member* share_out(const Group& group, Search& search, std::uint64_t fraction) {
  const std::size_t start = draw_index(group, search, fraction, nullptr);
  for (std::size_t i = 0; i < group.size(); ++i) {
    const Member* member = group[(start + i) % group.size()];
    if (search.take(*member)) return member;
  }
  return nullptr;
}

const Member* share_out_next(const Group& group, Search& search) {
  return share_out(group, search, mix(search.state.spill.fetch_add(1, std::memory_order_relaxed)));
}

}  // namespace poise::balance
