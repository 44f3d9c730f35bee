#pragma once

#include <time.h>

#include <cstdint>
#include <limits>

namespace poise::loadgen {

/// Nanoseconds of the monotonic clock, or a span of them. One integer type for both keeps the two
/// loops, the heap of deadlines and the histograms free of casts.
using Nanos = std::int64_t;

inline constexpr Nanos kNever = std::numeric_limits<Nanos>::max();
inline constexpr Nanos kMicrosecond = 1'000;
inline constexpr Nanos kMillisecond = 1'000'000;
inline constexpr Nanos kSecond = 1'000'000'000;

inline Nanos now() {
  timespec at{};
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * kSecond + at.tv_nsec;
}

constexpr double seconds(Nanos span) {
  return static_cast<double>(span) / 1e9;
}
constexpr Nanos nanos(double seconds) {
  return static_cast<Nanos>(seconds * 1e9);
}

}  // namespace poise::loadgen
