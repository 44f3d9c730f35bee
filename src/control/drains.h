#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "control/loop.h"
#include "control/worker_threads.h"
#include "poise/ids.h"

namespace poise::control {

/// How many of `sessions` to let go now so that the last one goes at the end, with `left` of the
/// time to go and a look every `step`. `credit` carries fractions from one look to the next. No
/// time left: all of them.
std::uint32_t to_release(double& credit, std::uint32_t sessions, std::chrono::milliseconds left,
                         std::chrono::milliseconds step);

/// Backends and services that finish: counts what is left, lets sessions go at a pace where that
/// was asked for, and says when the last one has gone. A session whose server owes an answer is
/// waited for, also beyond the time. Control thread only.
class Drains {
 public:
  static constexpr std::chrono::milliseconds kStep{500};

  struct Target {
    BackendId backend{};  ///< one of the two
    ServiceId service{};
    bool down = false;  ///< health's, beside an operator's of the same backend
    auto operator<=>(const Target&) const = default;
  };
  struct Drain {
    std::function<std::uint32_t()> sessions;  ///< how many there are
    std::chrono::milliseconds over{};         ///< 0: they end by themselves
    std::function<void()> finished;
    CloseReason reason = CloseReason::drained;
    Loop::Clock::time_point until{};  ///< set by begin()
    double credit = 0;
  };

  Drains(WorkerThreads& workers, Loop& loop) : workers_(workers), loop_(loop) {}

  /// In place of the one there was for this target.
  void begin(Target target, Drain drain);
  void cancel(Target target) { drains_.erase(target); }
  /// Until when its sessions are let go; none when they are not.
  [[nodiscard]] const Drain* find(Target target) const;

 private:
  void step();
  void release(const Target& target, CloseReason reason, std::uint32_t sessions);

  WorkerThreads& workers_;
  Loop& loop_;
  std::map<Target, Drain> drains_;
  bool running_ = false;
  std::size_t first_worker_ = 0;  ///< who gets the odd ones
};

}  // namespace poise::control
