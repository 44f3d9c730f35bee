#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "poise/reasons.h"

namespace poise {

/// Counted by one thread, read by any: no locked instruction, no torn value.
class Counter {
 public:
  void add(std::uint64_t n = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// What one worker counts for one backend as used by one service; element 0 of a service stands for
/// "no backend".
struct PairCounters {
  Counter sessions_started;
  std::array<Counter, kCloseReasonNames.size()> sessions_ended;
  std::array<Counter, 2> bytes;  ///< by direction: to_backend, to_client
  std::array<Counter, kTryOutcomeNames.size()>
      retries;  ///< tries that failed and were followed by one at another backend
  std::array<Counter, kGreetingClassNames.size()> greetings;
};

/// What one worker counts for one service.
struct ServiceCounters {
  std::array<Counter, kRefusalReasonNames.size()> refusals;
  std::array<Counter, kRefusalReasonNames.size()> would_refuse;  ///< limits with mode "log"
  Counter early_talkers;
};

/// What one worker counts for itself.
struct WorkerCounters {
  Counter accept_paused;    ///< times a listener had to wait because fds or memory had run out
  Counter buffers_ran_out;  ///< receives ended by -ENOBUFS
  Counter sessions_shed;    ///< accepted and closed at once: no slot, no fd
  Counter bulk_turns;       ///< directions turned to splice
};

}  // namespace poise
