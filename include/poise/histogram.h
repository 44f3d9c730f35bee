#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "poise/counters.h"

namespace poise {

/// How often a time span fell between two fixed bounds, for metrics. Single writer, any reader, no
/// lock: a reader sees each number whole, and sums over buckets read at one moment may differ by
/// what was counted meanwhile. The bounds span what mail needs, from a good server on the LAN to
/// postscreen's wait and the gate's budget.
class DurationHistogram {
 public:
  /// Upper ends (inclusive) of all buckets but the last, which takes the rest.
  static constexpr std::array<std::chrono::microseconds, 18> kBounds{
      std::chrono::microseconds{500},
      std::chrono::microseconds{1'000},
      std::chrono::microseconds{2'500},
      std::chrono::microseconds{5'000},
      std::chrono::microseconds{10'000},
      std::chrono::microseconds{25'000},
      std::chrono::microseconds{50'000},
      std::chrono::microseconds{100'000},
      std::chrono::microseconds{250'000},
      std::chrono::microseconds{500'000},
      std::chrono::seconds{1},
      std::chrono::microseconds{2'500'000},
      std::chrono::seconds{5},
      std::chrono::seconds{10},
      std::chrono::seconds{30},
      std::chrono::seconds{60},
      std::chrono::seconds{300},
      std::chrono::seconds{3600}};

  /// Negative spans count as none.
  void add(std::chrono::nanoseconds span) {
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(
        std::max(span, std::chrono::nanoseconds{0}));
    // Rounded up: 500.4 us is above the bound of 500.
    const auto above = us < span ? us + std::chrono::microseconds{1} : us;
    buckets_[static_cast<std::size_t>(std::lower_bound(kBounds.begin(), kBounds.end(), above) -
                                      kBounds.begin())]
        .add();
    sum_us_.add(static_cast<std::uint64_t>(us.count()));
  }

  /// Not cumulative; kBounds.size() is the one without an upper end.
  [[nodiscard]] std::uint64_t bucket(std::size_t index) const { return buckets_[index].get(); }
  [[nodiscard]] std::uint64_t count() const {
    std::uint64_t count = 0;
    for (const Counter& bucket : buckets_) count += bucket.get();
    return count;
  }
  [[nodiscard]] std::chrono::microseconds sum() const {
    return std::chrono::microseconds{sum_us_.get()};
  }

 private:
  std::array<Counter, kBounds.size() + 1> buckets_;
  Counter sum_us_;
};

}  // namespace poise
