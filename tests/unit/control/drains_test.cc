#include "control/drains.h"

#include <gtest/gtest.h>

namespace poise::control {
namespace {

using std::chrono::milliseconds;

std::uint32_t steps_to_release(std::uint32_t sessions, milliseconds over, milliseconds step,
                               std::uint32_t& largest) {
  double credit = 0;
  std::uint32_t steps = 0;
  for (milliseconds left = over; sessions > 0; left -= step, ++steps) {
    const std::uint32_t now = to_release(credit, sessions, left, step);
    largest = std::max(largest, now);
    sessions -= now;
  }
  return steps;
}

// Few sessions in a long time go one by one, many go in even lots, and the last goes at the end.
TEST(Drains, sessions_go_evenly_until_the_end) {
  std::uint32_t largest = 0;
  EXPECT_NEAR(steps_to_release(10, milliseconds(60'000), milliseconds(500), largest), 120, 13);
  EXPECT_EQ(largest, 1u);
  largest = 0;
  EXPECT_NEAR(steps_to_release(12'000, milliseconds(60'000), milliseconds(500), largest), 120, 1);
  EXPECT_LE(largest, 105u);
}

TEST(Drains, when_the_time_is_over_all_go) {
  double credit = 0;
  EXPECT_EQ(to_release(credit, 7, milliseconds(-5), milliseconds(500)), 7u);
  EXPECT_EQ(to_release(credit, 7, milliseconds(400), milliseconds(500)), 7u);
}

}  // namespace
}  // namespace poise::control
