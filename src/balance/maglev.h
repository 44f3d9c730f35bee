#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "balance/source_hash.h"

namespace poise::balance {

/// Entries of a maglev table, a prime: 128 KiB. The same for every pool: a size that followed the
/// number of members would move every source when it changed.
inline constexpr std::size_t kMaglevEntries = 65537;

/// The lookup table of "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016,
/// section 3.4), with weights: indices into `group`, each in proportion to its weight. Depends on
/// addresses, ports and weights only, not on the order of the members. When a member goes, its
/// entries are handed to the others and few others change.
[[nodiscard]] std::vector<std::uint16_t> maglev_table(const Group& group);

/// A source's sessions go to one member, by one look into a table; past a tried or full member the
/// following entries are asked, so a source's second choice is constant too.
class Maglev {
 public:
  explicit Maglev(Group group);

  [[nodiscard]] const Member* pick(Search& search) const;

 private:
  SourceHash rest_;  ///< owns the group, and decides when entry after entry belongs to tried or
                     ///< full members
  std::vector<std::uint16_t> table_;
};

}  // namespace poise::balance
