#pragma once

#include "balance/group.h"

namespace poise::balance {

/// The fewest sessions per weight; those that tie take turns by weight, so that an idle pool is not
/// served by its first member alone. Looks at every member: from some hundred on random_two gets
/// nearly the same for less.
class LeastConn {
 public:
  explicit LeastConn(Group group);

  [[nodiscard]] const Member* pick(Search& search) const;

 private:
  Group group_;
};

}  // namespace poise::balance
