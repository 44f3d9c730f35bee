#include "balance/least_conn.h"

#include <optional>
#include <utility>

namespace poise::balance {

LeastConn::LeastConn(Group group) : group_(std::move(group)) {}

const Member* LeastConn::pick(Search& search) const {
  // A dead backend has no sessions and so is everyone's first choice. Were its retries to advance
  // the same cursor, each session would take two steps, and of two that tie always the same would
  // get it: hence the spill positions.
  const std::uint64_t turn = (search.first ? search.state.cursor : search.state.spill)
                                 .fetch_add(1, std::memory_order_relaxed);

  for (int lap = 0; lap < kLapsMax; ++lap) {
    std::optional<Load> least;
    std::uint64_t weight_tied = 0;
    for (const Member* member : group_) {
      if (!search.open(*member)) continue;
      const Load load(*member);
      if (!least || load < *least) {
        least = load;
        weight_tied = member->weight;
      } else if (!(*least < load)) {
        weight_tied += member->weight;
      }
    }
    if (!least) return nullptr;

    const Member* choice = nullptr;
    std::uint64_t rest = search.first ? turn % weight_tied : scale(mix(turn), weight_tied);
    for (const Member* member : group_) {
      if (*least < Load(*member) || !search.open(*member)) continue;
      choice = member;
      if (rest < member->weight) break;
      rest -= member->weight;
    }
    if (choice != nullptr && search.take(*choice)) return choice;
  }
  return share_out_next(group_, search);
}

}  // namespace poise::balance
