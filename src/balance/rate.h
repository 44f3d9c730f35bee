#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

#include "poise/config.h"

/// Rates of new sessions: of a service, of a source, towards a backend. Pure: time is a value,
/// nanoseconds of a steady clock; several threads may be a little apart.
///
/// What `"20/s"` means everywhere: a bucket of one second's worth (20 tokens, never less than one),
/// full at first, filled at the rate. So up to 20 at once and then one each 50 ms; in any t seconds
/// at most 20 t + 20. `"30/m"` is one at once and then one each 2 s. Kept as the generic cell rate
/// algorithm keeps it (ITU-T I.371): one number, the time at which the bucket would be full again.
namespace poise::balance {

/// A configured rate in nanoseconds.
struct Pace {
  std::int64_t interval = 0;   ///< between two tokens; 0: no limit
  std::int64_t tolerance = 0;  ///< how far ahead of time the bucket may be used up

  Pace() = default;
  bool operator==(const Pace&) const = default;
  explicit Pace(config::Rate rate) {
    constexpr std::int64_t kSecond = 1'000'000'000;
    constexpr double kLongest = 1e9 * 3600 * 24 * 365;
    if (rate.per_second <= 0) return;
    interval = static_cast<std::int64_t>(std::clamp(kSecond / rate.per_second, 1.0, kLongest));
    tolerance = std::max<std::int64_t>(0, kSecond - interval);
  }

  /// When the bucket is full again if a token is taken now; none: there is no token.
  [[nodiscard]] std::optional<std::int64_t> take(std::int64_t full_at, std::int64_t now) const {
    const std::int64_t from = std::max(full_at, now);
    if (from - now > tolerance) return std::nullopt;
    return from + interval;
  }
};

/// One bucket for all workers, without a lock. The pace comes with each call, so that a reload only
/// changes the pace.
class RateLimiter {
 public:
  using Time = std::chrono::nanoseconds;

  /// Takes a token if there is one.
  [[nodiscard]] bool admit(const Pace& pace, Time now) {
    if (pace.interval == 0) return true;
    std::int64_t full_at = full_at_.load(std::memory_order_relaxed);
    while (true) {
      const auto next = pace.take(full_at, now.count());
      if (!next) return false;
      if (full_at_.compare_exchange_weak(full_at, *next, std::memory_order_relaxed)) return true;
    }
  }

  /// Gives a token back that was taken and not used: another limit said no.
  void give_back(const Pace& pace) { full_at_.fetch_sub(pace.interval, std::memory_order_relaxed); }

  /// How much of the bucket is used up, 0 to 1; 0 without a limit.
  [[nodiscard]] double used(const Pace& pace, Time now) const {
    if (pace.interval == 0) return 0;
    const double ahead =
        static_cast<double>(full_at_.load(std::memory_order_relaxed) - now.count());
    const double whole = static_cast<double>(pace.tolerance + pace.interval);
    return std::clamp(ahead / whole, 0.0, 1.0);
  }

  /// From when on admit() says yes, if nobody else takes that token: for who waits.
  [[nodiscard]] Time next(const Pace& pace) const {
    if (pace.interval == 0) return Time::min();
    return Time(full_at_.load(std::memory_order_relaxed) - pace.tolerance);
  }

 private:
  std::atomic<std::int64_t> full_at_{INT64_MIN / 2};
};

}  // namespace poise::balance
