#include "balance/brakes.h"

#include <algorithm>

namespace poise::balance {
namespace {

/// Failures in a row, in the 64 bits of an atomic.
struct Streak {
  std::uint32_t prefix_hash = 0;  ///< of the first
  std::uint8_t failures = 0;
  std::uint8_t pauses = 0;    ///< in a row
  bool two_prefixes = false;  ///< more than one client has seen it fail
  bool trial = false;         ///< a session is out to see whether it works again

  static Streak of(std::uint64_t packed) {
    return {.prefix_hash = static_cast<std::uint32_t>(packed >> 32),
            .failures = static_cast<std::uint8_t>(packed >> 8),
            .pauses = static_cast<std::uint8_t>(packed >> 16),
            .two_prefixes = (packed & 1) != 0,
            .trial = (packed & 2) != 0};
  }
  [[nodiscard]] std::uint64_t packed() const {
    return static_cast<std::uint64_t>(prefix_hash) << 32 |
           static_cast<std::uint64_t>(pauses) << 16 | static_cast<std::uint64_t>(failures) << 8 |
           (trial ? 2u : 0u) | (two_prefixes ? 1u : 0u);
  }
  [[nodiscard]] std::int64_t pause_ms() const {
    const unsigned doublings = std::min<unsigned>(pauses == 0 ? 0 : pauses - 1u, 8);
    return std::min(Brakes::kPauseMinMs << doublings, Brakes::kPauseMaxMs);
  }
};

}  // namespace

bool Brakes::enter(std::int64_t now_ms) {
  std::uint32_t pending = pending_.load(std::memory_order_relaxed);
  do {
    if (pending >= kPendingMax) return false;
  } while (!pending_.compare_exchange_weak(pending, pending + 1, std::memory_order_relaxed));

  std::int64_t until = paused_until_ms_.load(std::memory_order_relaxed);
  if (until == 0) return true;
  std::uint64_t packed = streak_.load(std::memory_order_relaxed);
  Streak streak = Streak::of(packed);
  // Until the trial has an answer nobody else tries, for as long as the last pause took.
  if (now_ms >= until && paused_until_ms_.compare_exchange_strong(until, now_ms + streak.pause_ms(),
                                                                  std::memory_order_relaxed)) {
    streak.trial = true;
    streak_.compare_exchange_strong(packed, streak.packed(), std::memory_order_relaxed);
    return true;
  }
  settled();
  return false;
}

void Brakes::clear() {
  streak_.store(0, std::memory_order_relaxed);
  paused_until_ms_.store(0, std::memory_order_relaxed);
}

std::int64_t Brakes::failed(std::uint32_t prefix_hash, std::int64_t now_ms) {
  std::uint64_t packed = streak_.load(std::memory_order_relaxed);
  for (;;) {
    Streak streak = Streak::of(packed);
    if (streak.pauses > 0 && !streak.trial && paused(now_ms)) return 0;  // was under way before
    bool pause = streak.pauses > 0;
    if (!pause) {
      if (streak.failures == 0) streak.prefix_hash = prefix_hash;
      streak.two_prefixes = streak.two_prefixes || streak.prefix_hash != prefix_hash;
      if (streak.failures < kFailuresMax) ++streak.failures;
      pause = streak.failures >= kFailuresMax && streak.two_prefixes;
    }
    if (pause) {
      streak.trial = false;
      if (streak.pauses < UINT8_MAX) ++streak.pauses;
    }
    if (!streak_.compare_exchange_weak(packed, streak.packed(), std::memory_order_relaxed))
      continue;
    if (!pause) return 0;
    paused_until_ms_.store(now_ms + streak.pause_ms(), std::memory_order_relaxed);
    return streak.pause_ms();
  }
}

}  // namespace poise::balance
