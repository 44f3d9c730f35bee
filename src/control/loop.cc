#include "control/loop.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace poise::control {

Result<void> Loop::open(const sigset_t& signals) {
  signals_ = net::Fd(::signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!signals_) return Error{"signalfd", std::strerror(errno)};
  wake_ = net::Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!wake_) return Error{"eventfd", std::strerror(errno)};
  return {};
}

void Loop::post(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    posted_.push_back(std::move(work));
  }
  const std::uint64_t one = 1;
  // It can only fail when it is already as awake as can be.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

void Loop::after(std::chrono::milliseconds delay, std::function<void()> work) {
  timers_.emplace(Clock::now() + delay, std::move(work));
}

void Loop::run() {
  stopped_ = false;
  while (!stopped_) {
    std::array<pollfd, 2> ready{pollfd{signals_.get(), POLLIN, 0}, pollfd{wake_.get(), POLLIN, 0}};
    ::poll(ready.data(), ready.size(), milliseconds_to_wait());
    if (ready[0].revents != 0) take_signals();
    if (ready[1].revents != 0) take_posted();
    if (!stopped_) run_timers();
  }
}

void Loop::close() {
  std::vector<std::function<void()>> dropped;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    dropped.swap(posted_);
  }
}

void Loop::take_signals() {
  signalfd_siginfo info{};
  while (!stopped_ && ::read(signals_.get(), &info, sizeof info) == sizeof info)
    if (on_signal) on_signal(info);
}

void Loop::take_posted() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t taken = ::read(wake_.get(), &count, sizeof count);
  std::vector<std::function<void()>> work;
  {
    const std::lock_guard lock(mutex_);
    work.swap(posted_);
  }
  for (const auto& each : work) each();
}

/// Those that are due now; what they add waits for the next turn.
void Loop::run_timers() {
  const auto now = Clock::now();
  std::vector<std::function<void()>> due;
  while (!timers_.empty() && timers_.begin()->first <= now) {
    due.push_back(std::move(timers_.begin()->second));
    timers_.erase(timers_.begin());
  }
  for (const auto& each : due) each();
}

int Loop::milliseconds_to_wait() const {
  if (timers_.empty()) return -1;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first - Clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 3'600'000));
}

}  // namespace poise::control
