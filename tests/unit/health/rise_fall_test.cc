#include "health/rise_fall.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

#include "health/transition_log.h"

namespace poise::health {
namespace {

using State = RiseFall::State;
using namespace std::chrono_literals;

TEST(rise_fall, the_first_outcome_decides) {
  RiseFall good(2, 3), bad(2, 3);
  EXPECT_TRUE(good.in_doubt());
  EXPECT_TRUE(good.add(true, "220 hello"));
  EXPECT_EQ(good.state(), State::alive);
  EXPECT_EQ(good.history(), "1 of 1 good, last: 220 hello");
  EXPECT_TRUE(bad.add(false, "Connection refused"));
  EXPECT_EQ(bad.state(), State::dead);
}

TEST(rise_fall, tells_how_many_and_the_last_words) {
  RiseFall tier(2, 3, State::alive);
  EXPECT_FALSE(tier.add(false, "silent"));
  EXPECT_FALSE(tier.add(false, "silent"));
  EXPECT_TRUE(tier.add(false, "421 4.3.2 service shutting down"));
  EXPECT_EQ(tier.history(), "3 of 3 failed, last: 421 4.3.2 service shutting down");
  EXPECT_FALSE(tier.add(true, "220 a"));
  EXPECT_TRUE(tier.add(true, "220 b"));
  EXPECT_EQ(tier.history(), "2 of 2 good, last: 220 b");
}

// Against the definition: the state turns exactly when the last rise or fall outcomes all speak
// against it, and never otherwise.
RC_GTEST_PROP(rise_fall, turns_at_the_count_and_never_without,
              (const std::vector<bool>& outcomes)) {
  const auto rise = *rc::gen::inRange(1u, 6u), fall = *rc::gen::inRange(1u, 6u);
  RiseFall tier(rise, fall, State::alive);
  bool alive = true;
  unsigned row = 0;
  for (const bool good : outcomes) {
    row = good != alive ? row + 1 : 0;
    const bool turns = row == (alive ? fall : rise);
    RC_ASSERT(tier.add(good, "x") == turns);
    if (turns) {
      alive = !alive;
      row = 0;
    }
    RC_ASSERT((tier.state() == State::alive) == alive);
    RC_ASSERT(tier.against() == row);
  }
}

TEST(transition_log, a_flapping_backend_gets_six_lines_a_minute_and_the_rest_is_counted) {
  TransitionLog log;
  Time now{1h};
  unsigned lines = 0, told = 0;
  for (int i = 0; i < 600; ++i, now += 1s)
    if (const auto left_out = log.admit(now)) {
      ++lines;
      told += *left_out;
    }
  EXPECT_EQ(lines, 60u);
  EXPECT_EQ(log.overdue(now - 30s), 0u);
  EXPECT_EQ(lines + told + log.overdue(now + 60s), 600u);
  EXPECT_EQ(log.overdue(now + 120s), 0u);
}

}  // namespace
}  // namespace poise::health
