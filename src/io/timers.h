#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace poise::io {

/// One coarse deadline for each of many slots; setting, moving and removing one are O(1), waiting
/// costs nothing.
///
/// A slot may come up early, never late by more than a tick: far deadlines lie in coarse buckets
/// that are opened when they begin, and the owner, who knows its exact deadline, sets the slot
/// again. So nothing is ever moved between buckets here, and 9,500 idle sessions cost a few visits
/// each in half an hour. One thread. Ticks are the caller's unit.
class TimerWheel {
 public:
  using Tick = std::uint32_t;
  static constexpr Tick kNever = UINT32_MAX;

  explicit TimerWheel(std::uint32_t slots) : slots_max_(slots) {}

  /// Replaces what was set. A tick that is past comes up at the next expire().
  void set(std::uint32_t slot, Tick tick);
  void remove(std::uint32_t slot);

  /// Calls `due(slot)` for each slot whose bucket has begun by `now`; the slot is unset by then,
  /// and `due` may set it again.
  template <class Due>
  void expire(Tick now, Due&& due) {
    if (now <= now_) return;
    const Tick before = now_;
    now_ = now;
    for (unsigned level = 0; level < kLevels; ++level) {
      const unsigned shift = level * kLevelShift;
      const Tick first = (before >> shift) + 1, last = now >> shift;
      if (last < first) break;  // coarser levels have not moved either
      std::uint64_t begun = occupied_[level];
      if (last - first < kBuckets - 1) begun &= range_mask(first % kBuckets, last - first + 1);
      while (begun != 0) {
        const auto bucket = static_cast<unsigned>(__builtin_ctzll(begun));
        begun &= begun - 1;
        collect(level, bucket);
      }
    }
    for (std::size_t i = 0; i < due_.size(); ++i) {
      const std::uint32_t slot = due_[i];
      if (nodes_[slot].where != kDue) continue;  // removed or set again meanwhile
      nodes_[slot].where = kNowhere;
      due(slot);
    }
    due_.clear();
  }

  /// When expire() has something to do next; kNever if nothing is set.
  [[nodiscard]] Tick next() const;

 private:
  static constexpr unsigned kLevels = 7, kLevelShift = 3, kBuckets = 64;
  static constexpr std::uint16_t kNowhere = 0xffff, kDue = 0xfffe;
  static constexpr std::uint32_t kNone = UINT32_MAX;

  struct Node {
    std::uint32_t next = kNone, previous = kNone;
    std::uint16_t where = kNowhere;
  };

  static std::uint64_t range_mask(unsigned first, unsigned count);
  void collect(unsigned level, unsigned bucket);
  void unlink(std::uint32_t slot);

  std::uint32_t slots_max_;
  Tick now_ = 0;
  std::array<std::uint64_t, kLevels> occupied_{};
  std::array<std::array<std::uint32_t, kBuckets>, kLevels> heads_ = [] {
    std::array<std::array<std::uint32_t, kBuckets>, kLevels> heads;
    for (auto& level : heads) level.fill(kNone);
    return heads;
  }();
  std::vector<Node> nodes_;  // grows to the highest slot seen
  std::vector<std::uint32_t> due_;
};

}  // namespace poise::io
