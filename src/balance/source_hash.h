#pragma once

#include <cstdint>
#include <vector>

#include "balance/group.h"

namespace poise::balance {

/// For each member of `group` a number made of its address and port only; of several with the same
/// address each gets its own.
[[nodiscard]] std::vector<std::uint64_t> member_keys(const Group& group);

/// A source's sessions go to one member, by weighted rendezvous hashing: every member has a score
/// for the source, the best one gets it. When a member goes, exactly its own sources move, each to
/// its second best; when it is back, exactly those return; a changed weight moves what it must. The
/// same on any box with the same members. Computes every member's score: maglev does it with one
/// look into a table, at the price of moving a few more.
class SourceHash {
 public:
  explicit SourceHash(Group group);

  [[nodiscard]] const Member* pick(Search& search) const;

  [[nodiscard]] const Group& group() const { return group_; }

 private:
  [[nodiscard]] const Member* best_open(Search& search, std::uint64_t source) const;
  [[nodiscard]] const Member* best_open_weighted(Search& search, std::uint64_t source) const;

  Group group_;
  std::vector<std::uint64_t> keys_;
  bool weighted_ = false;  ///< members differ in weight; otherwise logarithms can be spared
};

}  // namespace poise::balance
