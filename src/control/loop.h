#pragma once

#include <sys/signalfd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "net/fd.h"
#include "poise/result.h"

namespace poise::control {

/// Control's own loop: signals, functions that other threads post, and timers. Everything runs in
/// the thread that calls run(), one thing at a time.
class Loop {
 public:
  using Clock = std::chrono::steady_clock;

  Loop() = default;
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// `signals` must be blocked in every thread.
  Result<void> open(const sigset_t& signals);

  /// From any thread.
  void post(std::function<void()> work);
  void after(std::chrono::milliseconds delay, std::function<void()> work);

  std::function<void(const signalfd_siginfo&)> on_signal;

  void run();
  void stop() { stopped_ = true; }
  /// What is posted from now on, and what waits, is destroyed without having run.
  void close();

 private:
  void take_signals();
  void take_posted();
  void run_timers();
  [[nodiscard]] int milliseconds_to_wait() const;

  net::Fd signals_, wake_;
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;
  std::multimap<Clock::time_point, std::function<void()>> timers_;
  bool stopped_ = false;
  bool closed_ = false;  ///< guarded by mutex_
};

}  // namespace poise::control
