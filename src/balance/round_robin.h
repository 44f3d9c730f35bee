#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "balance/group.h"

namespace poise::balance {

/// Entries of a round robin table at most: 128 KiB.
inline constexpr std::size_t kPeriodMax = 65536;

/// One period of the smooth weighted round robin that nginx made known: indices into `weights`,
/// each as often as its weight (after division by their common divisor), spread as evenly as they
/// go: 5,1,1 gives 0 0 1 0 2 0 0. Weights that would need more than `entries_max` entries are
/// scaled down, to one entry each at least; there must be fewer weights than `entries_max`, all
/// above 0.
[[nodiscard]] std::vector<std::uint16_t> smooth_period(std::span<const std::uint32_t> weights,
                                                       std::size_t entries_max = kPeriodMax);

/// Each in turn, by weight. First picks walk the period and so are exact over all workers; what a
/// full member or a retry leaves over is shared out apart from it, so that failures never shift the
/// others' turns.
class RoundRobin {
 public:
  explicit RoundRobin(Group group);

  [[nodiscard]] const Member* pick(Search& search) const;

 private:
  Group group_;
  std::vector<std::uint16_t> period_;
};

}  // namespace poise::balance
