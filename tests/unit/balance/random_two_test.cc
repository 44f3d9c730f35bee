#include "balance/random_two.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <numeric>

#include "pool_builder.h"

namespace poise::balance::test {
namespace {

/// Two members are always both drawn, so the busier one is never chosen; were one drawn twice, it
/// would be.
RC_GTEST_PROP(random_two, draws_two_different_members, (std::uint64_t random)) {
  PoolBuilder builder(config::Scheduler::random_two,
                      {*rc::gen::inRange(1u, 1000u), *rc::gen::inRange(1u, 1000u)});
  builder.states[0].sessions = 1;
  RC_ASSERT(builder.build().pick({.random = random}).member->id.value == 1u);
}

/// Of three the busiest is never chosen, and the others only by their load, whoever was drawn.
TEST(random_two, never_chooses_the_busiest) {
  PoolBuilder builder(config::Scheduler::random_two, {1, 1, 1, 1});
  builder.states[2].sessions = 9;
  const auto counts = spread(builder.build(), 10000);
  EXPECT_EQ(counts[2], 0u);
  for (const std::size_t member : {0u, 1u, 3u}) EXPECT_NEAR(counts[member], 10000 / 3.0, 300);
}

TEST(random_two, compares_sessions_per_weight) {
  PoolBuilder builder(config::Scheduler::random_two, {1, 10});
  builder.states[0].sessions = 2;
  builder.states[1].sessions = 19;
  EXPECT_THAT(spread(builder.build(), 100), testing::ElementsAre(0, 100));
}

/// In an idle pool only the draw decides: the first drawn wins, by weight.
TEST(random_two, draws_by_weight) {
  PoolBuilder builder(config::Scheduler::random_two, {1, 2, 5});
  const auto counts = spread(builder.build(), 80000);
  EXPECT_NEAR(counts[0], 10000, 400);
  EXPECT_NEAR(counts[1], 20000, 400);
  EXPECT_NEAR(counts[2], 50000, 400);
}

/// What the scheduler is for: sessions that stay spread far more evenly than by one random draw,
/// whose worst of 100 members with 100 sessions each would hold about 125.
TEST(random_two, keeps_lasting_sessions_nearly_even) {
  PoolBuilder builder(config::Scheduler::random_two, std::vector<std::uint32_t>(100, 1));
  const GreetingPool pool = builder.build();
  for (std::uint32_t i = 0; i < 10000; ++i)
    ASSERT_EQ(pool.pick(client(i)).result, PickResult::chosen);
  std::uint32_t most = 0;
  for (std::size_t i = 0; i < 100; ++i) most = std::max(most, builder.sessions(i));
  EXPECT_LE(most, 106u);
}

TEST(random_two, shares_a_dead_members_sessions) {
  PoolBuilder builder(config::Scheduler::random_two, {1, 1, 1});
  const auto counts = served(builder.build(), 30000, {1});
  EXPECT_EQ(counts[1], 0u);
  EXPECT_NEAR(counts[0], 15000, 600);
}

}  // namespace
}  // namespace poise::balance::test
