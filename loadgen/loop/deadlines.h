#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "loadgen/loop/time.h"

namespace poise::loadgen {

/// At most one deadline a slot, the earliest first. A binary heap that knows where each slot is:
/// setting and clearing is O(log n), and a finished session leaves nothing behind.
class Deadlines {
 public:
  void set(std::uint32_t slot, Nanos deadline);
  void clear(std::uint32_t slot);

  /// kNever when there is none.
  [[nodiscard]] Nanos earliest() const { return heap_.empty() ? kNever : heap_.front().deadline; }
  /// Takes one slot whose deadline has come; false when there is none.
  bool pop_due(Nanos now, std::uint32_t& slot);

 private:
  struct Entry {
    Nanos deadline;
    std::uint32_t slot;
  };
  static constexpr std::uint32_t kAbsent = UINT32_MAX;

  void place(std::size_t at, Entry entry);
  void sift_up(std::size_t at, Entry entry);
  void sift_down(std::size_t at, Entry entry);
  void remove_at(std::size_t at);

  std::vector<Entry> heap_;
  std::vector<std::uint32_t> where_;  ///< by slot: index into heap_, or kAbsent
};

}  // namespace poise::loadgen
