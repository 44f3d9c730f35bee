#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "pool_builder.h"

namespace poise::balance::test {
namespace {

using testing::ElementsAre;

TEST(least_conn, picks_the_fewest_sessions_per_weight) {
  struct Case {
    std::vector<std::uint32_t> weights;
    std::vector<std::uint32_t> sessions;
    std::uint32_t expected;
  };
  const Case cases[] = {
      {{1, 1, 1}, {3, 1, 2}, 1},
      {{1, 4}, {2, 7}, 1},                // 2 against 1.75
      {{1, 4}, {2, 9}, 0},                // 2 against 2.25
      {{7, 3}, {70000001, 30000000}, 1},  // more than a float can tell apart
      {{UINT32_MAX - 1, UINT32_MAX}, {4000000000, 4000000000}, 1},
      {{UINT32_MAX - 3, UINT32_MAX - 2},
       {UINT32_MAX - 2, UINT32_MAX - 1},
       1},  // and than a double can
  };
  for (const Case& one : cases) {
    PoolBuilder builder(config::Scheduler::least_conn, one.weights);
    for (std::size_t i = 0; i < one.sessions.size(); ++i)
      builder.states[i].sessions = one.sessions[i];
    const GreetingPool pool = builder.build();
    for (int turn = 0; turn < 5; ++turn) {
      const Pick pick = pool.pick({});
      EXPECT_EQ(pick.member->id.value, one.expected) << testing::PrintToString(one.sessions);
      Pool::release(*pick.member->state);
    }
  }
}

/// Whatever the weights, sessions, limits and members tried: nobody who could have been chosen has
/// less load.
RC_GTEST_PROP(least_conn, never_picks_a_member_with_more_load_than_another_candidate, ()) {
  PoolBuilder builder(config::Scheduler::least_conn);
  const auto size = *rc::gen::inRange<std::size_t>(1, 12);
  std::vector<BackendId> tried;
  for (std::size_t i = 0; i < size; ++i) {
    builder.add({.weight = *rc::gen::inRange(0u, 6u), .max_sessions = *rc::gen::inRange(0u, 20u)});
    builder.states[i].sessions = *rc::gen::inRange(0u, 20u);
    if (*rc::gen::inRange(0, 4) == 0) tried.push_back(BackendId{static_cast<std::uint32_t>(i)});
  }
  builder.state.cursor = *rc::gen::arbitrary<std::uint64_t>();
  const auto candidate = [&](std::size_t i) {
    const Member& member = builder.spec.members[i];
    return member.weight != 0 && std::find(tried.begin(), tried.end(), member.id) == tried.end() &&
           (member.max_sessions == 0 || builder.sessions(i) < member.max_sessions);
  };
  std::vector<bool> candidates;
  for (std::size_t i = 0; i < size; ++i) candidates.push_back(candidate(i));

  const GreetingPool pool = builder.build();
  const Pick pick = pool.pick({.tried = tried});
  RC_ASSERT((pick.result == PickResult::chosen) ==
            (std::find(candidates.begin(), candidates.end(), true) != candidates.end()));
  if (pick.member == nullptr) return;
  RC_ASSERT(candidates[pick.member->id.value]);
  const std::uint64_t chosen_sessions = builder.sessions(pick.member->id.value) - 1;
  for (std::size_t i = 0; i < size; ++i) {
    if (!candidates[i] || i == pick.member->id.value) continue;
    RC_ASSERT(chosen_sessions * builder.spec.members[i].weight <=
              std::uint64_t{builder.sessions(i)} * pick.member->weight);
  }
}

TEST(least_conn, rotates_ties) {
  PoolBuilder builder(config::Scheduler::least_conn, {1, 1, 1});
  EXPECT_THAT(spread(builder.build(), 300), ElementsAre(100, 100, 100));
}

TEST(least_conn, rotates_ties_by_weight) {
  PoolBuilder builder(config::Scheduler::least_conn, {3, 1});
  EXPECT_THAT(spread(builder.build(), 400), ElementsAre(300, 100));
}

/// The tie is between the two ends: the busy one in the middle must not hand its turns to its
/// neighbour.
TEST(least_conn, rotates_ties_evenly_past_busy_members) {
  PoolBuilder builder(config::Scheduler::least_conn, {1, 1, 1});
  builder.states[1].sessions = 5;
  EXPECT_THAT(spread(builder.build(), 300), ElementsAre(150, 0, 150));
}

TEST(least_conn, fills_members_to_their_weights) {
  PoolBuilder builder(config::Scheduler::least_conn, {1, 2, 5});
  const GreetingPool pool = builder.build();
  for (int i = 0; i < 800; ++i) ASSERT_EQ(pool.pick({}).result, PickResult::chosen);
  EXPECT_EQ(builder.sessions(0), 100u);
  EXPECT_EQ(builder.sessions(1), 200u);
  EXPECT_EQ(builder.sessions(2), 500u);
}

/// A dead backend is always the emptiest, so every session that starts in an idle pool may go there
/// first.
TEST(least_conn, shares_a_dead_members_sessions_evenly) {
  for (std::size_t dead = 0; dead < 3; ++dead) {
    PoolBuilder builder(config::Scheduler::least_conn, {1, 1, 1});
    const auto counts = served(builder.build(), 3000, {dead});
    EXPECT_EQ(counts[dead], 0u);
    EXPECT_NEAR(counts[(dead + 1) % 3], 1500, 60);
  }
  // The others busy: now the dead one really is everybody's first choice.
  PoolBuilder builder(config::Scheduler::least_conn, {1, 1, 1});
  builder.states[0].sessions = builder.states[2].sessions = 7;
  const auto counts = served(builder.build(), 3000, {1});
  EXPECT_EQ(counts[1], 0u);
  EXPECT_NEAR(counts[0], 1500, 100);
}

/// Sessions that meet one dead member are likelier to have met certain others before; that must not
/// show.
TEST(least_conn, shares_the_sessions_of_several_dead_members_evenly) {
  PoolBuilder builder(config::Scheduler::least_conn, {1, 1, 1, 1, 1});
  const auto counts = served(builder.build(), 30000, {1, 3});
  for (const std::size_t alive : {0u, 2u, 4u}) EXPECT_NEAR(counts[alive], 10000, 300);
}

}  // namespace
}  // namespace poise::balance::test
