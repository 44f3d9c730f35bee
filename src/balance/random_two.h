#pragma once

#include <cstdint>
#include <vector>

#include "balance/group.h"

namespace poise::balance {

/// Two different members drawn by weight; the one with fewer sessions per weight gets the session
/// (Mitzenmacher's power of two choices). Nearly as even as least_conn, without looking at
/// everybody, and without the herd that follows the one emptiest backend.
class RandomTwo {
 public:
  explicit RandomTwo(Group group);

  [[nodiscard]] const Member* pick(Search& search) const;

 private:
  [[nodiscard]] const Member* draw_open(Search& search, std::uint64_t fraction,
                                        const Member* except) const;

  Group group_;
  std::vector<std::uint64_t> ends_;  ///< weights laid end to end: where each member's part ends
};

}  // namespace poise::balance
