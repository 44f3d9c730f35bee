#include "log/limiter.h"

#include <fmt/format.h>

#include <algorithm>

#include "poise/check.h"

namespace poise::log {

Limiter::Verdict Limiter::admit(std::size_t kind_index, Milliseconds now) {
  CHECK(kind_index < kKinds);
  Kind& kind = kinds_[kind_index];
  const std::lock_guard lock(kind.mutex);
  // What was suppressed is told before a new interval begins.
  if (kind.suppressed == 0 &&
      (kind.started == Milliseconds::min() || now >= kind.started + interval_)) {
    kind.started = now;
    kind.admitted = 0;
    kind.sample.clear();
  }
  if (kind.admitted < burst_) {
    ++kind.admitted;
    return Verdict::admitted;
  }
  return ++kind.suppressed == 1 ? Verdict::suppressed_first : Verdict::suppressed;
}

void Limiter::said(std::size_t kind_index, config::LogLevel level, std::string_view text) {
  CHECK(kind_index < kKinds);
  Kind& kind = kinds_[kind_index];
  const std::lock_guard lock(kind.mutex);
  if (!kind.sample.empty()) return;
  kind.level = level;
  kind.sample = text;
}

void Limiter::expire(Milliseconds now,
                     const std::function<void(config::LogLevel, std::string)>& report) {
  for (Kind& kind : kinds_) {
    const std::lock_guard lock(kind.mutex);
    if (kind.suppressed > 0 && now >= kind.started + interval_) report_one(kind, report);
  }
}

void Limiter::expire_all(const std::function<void(config::LogLevel, std::string)>& report) {
  for (Kind& kind : kinds_) {
    const std::lock_guard lock(kind.mutex);
    if (kind.suppressed > 0) report_one(kind, report);
  }
}

void Limiter::report_one(Kind& kind,
                         const std::function<void(config::LogLevel, std::string)>& report) {
  report(kind.level, fmt::format("… and {} more like this: {}", kind.suppressed, kind.sample));
  kind.suppressed = 0;
  kind.started = Milliseconds::min();
}

std::optional<Limiter::Milliseconds> Limiter::next_due() {
  std::optional<Milliseconds> due;
  for (Kind& kind : kinds_) {
    const std::lock_guard lock(kind.mutex);
    if (kind.suppressed == 0) continue;
    const Milliseconds ends = kind.started + interval_;
    due = due ? std::min(*due, ends) : ends;
  }
  return due;
}

}  // namespace poise::log
