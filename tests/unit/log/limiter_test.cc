// What peers can cause is logged a few times an interval and then counted. Time is a value here.

#include "log/limiter.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace poise::log {
namespace {

using std::chrono::milliseconds;
using Verdict = Limiter::Verdict;

class LimiterTest : public ::testing::Test {
 protected:
  std::vector<std::string> expire(int now) {
    std::vector<std::string> lines;
    limiter_.expire(milliseconds(now),
                    [&](config::LogLevel, std::string text) { lines.push_back(std::move(text)); });
    return lines;
  }
  Verdict admit(std::size_t kind, int now, const char* text = "x") {
    const Verdict verdict = limiter_.admit(kind, milliseconds(now));
    if (verdict == Verdict::admitted) limiter_.said(kind, config::LogLevel::warning, text);
    return verdict;
  }

  Limiter limiter_{2, milliseconds(1000)};
};

TEST_F(LimiterTest, admits_a_burst_then_counts_and_tells) {
  EXPECT_EQ(admit(3, 0, "no ports left"), Verdict::admitted);
  EXPECT_EQ(admit(3, 10, "other"), Verdict::admitted);
  EXPECT_FALSE(limiter_.next_due());
  EXPECT_EQ(admit(3, 20), Verdict::suppressed_first);
  EXPECT_EQ(admit(3, 30), Verdict::suppressed);
  EXPECT_EQ(admit(3, 999), Verdict::suppressed);
  ASSERT_EQ(limiter_.next_due(), milliseconds(1000));
  EXPECT_TRUE(expire(999).empty());
  EXPECT_EQ(expire(1000), std::vector<std::string>{"… and 3 more like this: no ports left"});
  EXPECT_FALSE(limiter_.next_due());
  EXPECT_TRUE(expire(5000).empty());
}

TEST_F(LimiterTest, new_interval_admits_again) {
  for (int i = 0; i < 2; ++i) EXPECT_EQ(admit(0, 0), Verdict::admitted);
  EXPECT_EQ(admit(0, 1000, "again"), Verdict::admitted);
  EXPECT_EQ(admit(0, 1001), Verdict::admitted);
  EXPECT_EQ(admit(0, 1002), Verdict::suppressed_first);
  EXPECT_EQ(expire(2000), std::vector<std::string>{"… and 1 more like this: again"});
}

TEST_F(LimiterTest, suppressed_lines_are_told_before_a_new_interval_begins) {
  for (int i = 0; i < 3; ++i) admit(0, 0);
  EXPECT_EQ(admit(0, 5000), Verdict::suppressed);
  EXPECT_EQ(expire(5001), std::vector<std::string>{"… and 2 more like this: x"});
  EXPECT_EQ(admit(0, 5002), Verdict::admitted);
}

TEST_F(LimiterTest, kinds_do_not_share) {
  for (std::size_t kind = 0; kind < Limiter::kKinds; ++kind) {
    EXPECT_EQ(admit(kind, 0), Verdict::admitted);
    EXPECT_EQ(admit(kind, 0), Verdict::admitted);
    EXPECT_EQ(admit(kind, 0), Verdict::suppressed_first);
  }
  EXPECT_EQ(expire(1000).size(), Limiter::kKinds);
}

}  // namespace
}  // namespace poise::log
