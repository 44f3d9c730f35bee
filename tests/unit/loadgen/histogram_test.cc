// Latencies in buckets: how far a percentile may be off, and what is exact.
#include "loadgen/report/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace poise::loadgen {
namespace {

TEST(Histogram, empty_says_zero) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.percentile(50), 0);
  EXPECT_EQ(histogram.max(), 0);
  EXPECT_EQ(histogram.mean(), 0);
}

TEST(Histogram, small_values_are_exact) {
  Histogram histogram;
  for (Nanos value = 0; value <= 200; ++value) histogram.add(value);
  EXPECT_EQ(histogram.percentile(50), 100);
  EXPECT_EQ(histogram.percentile(100), 200);
  EXPECT_EQ(histogram.percentile(0), 0);
  EXPECT_DOUBLE_EQ(histogram.mean(), 100);
}

TEST(Histogram, percentiles_agree_with_sorting_to_one_percent) {
  std::mt19937_64 random(1);
  std::lognormal_distribution<double> latency(13, 2);  // around 0.4 ms, with a long tail
  Histogram histogram;
  std::vector<Nanos> values;
  for (int at = 0; at < 50'000; ++at) {
    values.push_back(static_cast<Nanos>(latency(random)));
    histogram.add(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double percent : {1.0, 10.0, 50.0, 90.0, 99.0, 99.9, 99.99}) {
    const auto rank =
        static_cast<std::size_t>(std::ceil(percent / 100 * static_cast<double>(values.size())));
    const Nanos exact = values[rank - 1];
    const Nanos said = histogram.percentile(percent);
    EXPECT_GE(said, exact) << percent;
    EXPECT_LE(static_cast<double>(said), static_cast<double>(exact) * 1.008 + 1) << percent;
  }
  EXPECT_EQ(histogram.max(), values.back());
  EXPECT_EQ(histogram.percentile(100), values.back());
}

TEST(Histogram, one_stall_among_thousands_shows_in_the_tail_only) {
  Histogram histogram;
  for (int at = 0; at < 9989; ++at) histogram.add(kMillisecond);
  for (int at = 0; at < 11; ++at) histogram.add(200 * kMillisecond);
  EXPECT_LT(histogram.percentile(99), 2 * kMillisecond);
  EXPECT_GE(histogram.percentile(99.9), 200 * kMillisecond);
}

TEST(Histogram, absurd_values_are_kept_in_bounds) {
  Histogram histogram;
  histogram.add(-5);
  histogram.add(kNever);
  EXPECT_EQ(histogram.count(), 2u);
  EXPECT_EQ(histogram.percentile(50), 0);
  EXPECT_EQ(histogram.percentile(100), kNever);
}

TEST(Histogram, merged_is_as_if_added_to_one) {
  Histogram both;
  Histogram left;
  Histogram right;
  for (Nanos value = 1; value < kSecond; value *= 3) {
    both.add(value);
    (value % 2 == 0 ? left : right).add(value);
    (value % 5 == 0 ? left : right).add(value * 2);
    both.add(value * 2);
  }
  left.merge(right);
  EXPECT_EQ(left.count(), both.count());
  EXPECT_EQ(left.max(), both.max());
  for (const double percent : {10.0, 50.0, 90.0})
    EXPECT_EQ(left.percentile(percent), both.percentile(percent));
}

}  // namespace
}  // namespace poise::loadgen
