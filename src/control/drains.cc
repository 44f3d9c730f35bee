#include "control/drains.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace poise::control {

using std::chrono::milliseconds;

std::uint32_t to_release(double& credit, std::uint32_t sessions, milliseconds left,
                         milliseconds step) {
  if (left <= step) return sessions;
  credit += sessions * (static_cast<double>(step.count()) / static_cast<double>(left.count()));
  const auto whole = static_cast<std::uint32_t>(credit);
  credit -= whole;
  return std::min(whole, sessions);
}

void Drains::begin(Target target, Drain drain) {
  drain.until = Loop::Clock::now() + drain.over;
  drains_[target] = std::move(drain);
  if (running_) return;
  running_ = true;
  loop_.after(milliseconds(0), [this] { step(); });
}

const Drains::Drain* Drains::find(Target target) const {
  const auto at = drains_.find(target);
  return at != drains_.end() ? &at->second : nullptr;
}

void Drains::step() {
  std::vector<std::function<void()>> finished;
  for (auto at = drains_.begin(); at != drains_.end();) {
    const std::uint32_t sessions = at->second.sessions();
    if (sessions == 0) {
      finished.push_back(std::move(at->second.finished));
      at = drains_.erase(at);
      continue;
    }
    if (at->second.over.count() > 0) {
      const auto left =
          std::chrono::duration_cast<milliseconds>(at->second.until - Loop::Clock::now());
      release(at->first, at->second.reason, to_release(at->second.credit, sessions, left, kStep));
    }
    ++at;
  }
  for (const auto& each : finished) each();  // may begin others
  running_ = !drains_.empty();
  if (running_) loop_.after(kStep, [this] { step(); });
}

/// In shares, for nobody here knows how many each worker has; what one can't give is made up for
/// at the next step.
void Drains::release(const Target& target, CloseReason reason, std::uint32_t sessions) {
  const auto count = static_cast<std::uint32_t>(workers_.size());
  for (std::uint32_t i = 0; i < count && sessions > 0; ++i) {
    const std::uint32_t share = (sessions + count - i - 1) / (count - i);
    proxy::Release command;
    command.backend = target.backend;
    command.service = target.service;
    command.at_most = share;
    command.reason = reason;
    workers_.post((first_worker_ + i) % count, std::move(command));
    sessions -= share;
  }
  if (count > 0) first_worker_ = (first_worker_ + 1) % count;
}

}  // namespace poise::control
