#include "balance/brakes.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "pool_builder.h"

namespace poise::balance::test {
namespace {

constexpr std::uint32_t kA = 1, kB = 2;  // client prefixes

/// Whatever the brake, the session that entered leaves again.
bool enters(Brakes& brakes, std::int64_t now_ms) {
  if (!brakes.enter(now_ms)) return false;
  brakes.settled();
  return true;
}

// One client's trouble may be its own: two prefixes must have seen it, three times in a row.
TEST(Brakes, pause_after_three_failures_from_two_prefixes) {
  Brakes brakes;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(brakes.failed(kA, 0), 0);
  EXPECT_TRUE(brakes.open(1));
  EXPECT_EQ(brakes.failed(kB, 1), Brakes::kPauseMinMs);
  EXPECT_FALSE(brakes.open(2));
  EXPECT_TRUE(brakes.paused(2000));
  EXPECT_FALSE(brakes.paused(2001));
}

TEST(Brakes, a_good_greeting_ends_the_row) {
  Brakes brakes;
  brakes.failed(kA, 0);
  brakes.failed(kB, 0);
  brakes.greeted();
  EXPECT_EQ(brakes.failed(kA, 0), 0);
  EXPECT_EQ(brakes.failed(kB, 0), 0);
  EXPECT_GT(brakes.failed(kB, 0), 0);
}

// After the pause one session tries and the others keep away; each failed trial doubles the pause,
// and a good greeting forgets all of it.
TEST(Brakes, one_trial_after_each_pause_and_longer_pauses) {
  Brakes brakes;
  brakes.failed(kA, 0);
  brakes.failed(kB, 0);
  std::int64_t pause = brakes.failed(kB, 0), now = 0;
  for (const std::int64_t expected : {2'000, 4'000, 8'000, 16'000, 30'000, 30'000}) {
    ASSERT_EQ(pause, expected);
    EXPECT_FALSE(enters(brakes, now + pause - 1));
    now += pause;
    EXPECT_TRUE(enters(brakes, now));
    EXPECT_FALSE(enters(brakes, now));
    pause = brakes.failed(kA, now);
  }
  now += pause;
  EXPECT_TRUE(enters(brakes, now));
  brakes.greeted();
  EXPECT_TRUE(enters(brakes, now));
  EXPECT_EQ(brakes.failed(kA, now), 0);
}

// Sessions that were waiting when the pause began fail too, one after the other: that says nothing
// new.
TEST(Brakes, failures_of_the_same_moment_count_once) {
  Brakes brakes;
  brakes.failed(kA, 0);
  brakes.failed(kB, 0);
  ASSERT_EQ(brakes.failed(kB, 0), Brakes::kPauseMinMs);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(brakes.failed(kA, 100), 0);
  EXPECT_TRUE(enters(brakes, 2000));
}

TEST(Brakes, an_unanswered_trial_is_followed_by_another) {
  Brakes brakes;
  brakes.failed(kA, 0);
  brakes.failed(kB, 0);
  brakes.failed(kB, 0);
  EXPECT_TRUE(brakes.enter(2000));
  EXPECT_FALSE(enters(brakes, 3999));
  EXPECT_TRUE(enters(brakes, 4000));
}

class BrakedPool : public testing::TestWithParam<config::Scheduler> {};

// A backend with kPendingMax sessions waiting gets no more while another has fewer, and is asked
// again when all have as many: brakes never leave a pool without a candidate.
TEST_P(BrakedPool, spares_whoever_keeps_clients_waiting) {
  PoolBuilder builder(GetParam(), {1, 1, 1});
  const Pool pool = builder.build();
  std::vector<unsigned> counts(3);
  for (std::uint32_t i = 0; i < 500; ++i) {
    const Pick pick = pool.pick(client(i));
    ASSERT_EQ(pick.result, PickResult::chosen);
    ++counts[pick.member->id.value];
    Pool::release(*pick.member->state);
    if (pick.member->id.value != 1) pick.member->state->brakes.settled();  // the others greet
  }
  EXPECT_EQ(counts[1], Brakes::kPendingMax);

  for (std::uint32_t i = 0; i < 500; ++i) {
    const Pick pick = pool.pick(client(i));
    ASSERT_EQ(pick.result, PickResult::chosen);
    Pool::release(*pick.member->state);
    if (pick.member->id.value != 1 && i < 100) pick.member->state->brakes.settled();
  }
  // All keep clients waiting now, and as many each.
  std::vector<std::uint32_t> waiting;
  for (const balance::BackendState& state : builder.states)
    waiting.push_back(state.brakes.pending());
  const auto [least, most] = std::minmax_element(waiting.begin(), waiting.end());
  EXPECT_GT(*least, Brakes::kPendingMax);
  EXPECT_LE(*most - *least, 1u);
}

TEST_P(BrakedPool, leaves_a_paused_backend_alone_unless_it_is_the_only_one) {
  PoolBuilder builder(GetParam(), {1, 1});
  const GreetingPool pool = builder.build();
  for (int i = 0; i < 3; ++i) builder.states[0].brakes.failed(static_cast<std::uint32_t>(i), 0);
  for (std::uint32_t i = 0; i < 50; ++i) EXPECT_EQ(pool.pick(client(i)).member->id.value, 1u);
  const BackendId other{1};
  EXPECT_EQ(pool.pick(client(1, {&other, 1})).member->id.value, 0u);
  const BackendId both[] = {BackendId{0}, BackendId{1}};
  EXPECT_EQ(pool.pick(client(1, both)).result, PickResult::no_backend);
}

// Down is worse than paused, and a full backend is waited for rather than a paused one asked.
TEST_P(BrakedPool, a_paused_backend_comes_after_full_ones_and_before_down_ones) {
  PoolBuilder builder(GetParam());
  builder.add({});
  builder.add({.up = false});
  builder.add({.max_sessions = 1});
  const GreetingPool pool = builder.build();
  for (int i = 0; i < 3; ++i) builder.states[0].brakes.failed(static_cast<std::uint32_t>(i), 0);
  EXPECT_EQ(pool.pick(client(1)).member->id.value, 2u);
  EXPECT_EQ(pool.pick(client(2)).result, PickResult::full);
  const BackendId full{2};
  EXPECT_EQ(pool.pick(client(3, {&full, 1})).member->id.value, 0u);
}

// A preference is followed as long as its backend can serve, and costs nothing else.
TEST_P(BrakedPool, prefers_whom_it_is_told) {
  PoolBuilder builder(GetParam(), {1, 1, 1});
  builder.spec.members[2].max_sessions = 2;
  const GreetingPool pool = builder.build();
  PickRequest request = client(5);
  request.preferred = BackendId{2};
  EXPECT_EQ(pool.pick(request).member->id.value, 2u);
  EXPECT_EQ(pool.pick(request).member->id.value, 2u);
  EXPECT_NE(pool.pick(request).member->id.value, 2u);
  request.preferred = BackendId{77};
  EXPECT_EQ(pool.pick(request).result, PickResult::chosen);
  builder.spec.members[1].up = false;
  request.preferred = BackendId{1};
  EXPECT_NE(builder.build().pick(request).member->id.value, 1u);
}

INSTANTIATE_TEST_SUITE_P(schedulers, BrakedPool, testing::ValuesIn(kSchedulers), scheduler_name);

}  // namespace
}  // namespace poise::balance::test
