#include "poise/histogram.h"

#include <gtest/gtest.h>

#include <numeric>

namespace poise {
namespace {

using namespace std::chrono_literals;

TEST(duration_histogram, a_bound_belongs_to_its_own_bucket) {
  for (std::size_t i = 0; i < DurationHistogram::kBounds.size(); ++i) {
    DurationHistogram histogram;
    histogram.add(DurationHistogram::kBounds[i]);
    EXPECT_EQ(histogram.bucket(i), 1u) << i;
    histogram.add(DurationHistogram::kBounds[i] + 1ns);
    EXPECT_EQ(histogram.bucket(i + 1), 1u) << i;
    EXPECT_EQ(histogram.count(), 2u);
  }
}

TEST(duration_histogram, sums_what_was_added_and_takes_a_negative_span_for_none) {
  DurationHistogram histogram;
  histogram.add(1500us);
  histogram.add(2s);
  histogram.add(-5s);
  EXPECT_EQ(histogram.sum(), 2'001'500us);
  EXPECT_EQ(histogram.count(), 3u);
  EXPECT_EQ(histogram.bucket(0), 1u);
}

}  // namespace
}  // namespace poise
