#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

#include "pool_builder.h"

/// Which members a pool draws from, for every scheduler alike: tiers, weight 0, disabled, down,
/// tried, full.
namespace poise::balance::test {
namespace {

using config::Overflow;
using config::Scheduler;
using config::WhenAllDown;
using Row = PoolBuilder::Row;

class EveryScheduler : public testing::TestWithParam<Scheduler> {
 protected:
  PoolBuilder builder_{GetParam()};

  void add(std::initializer_list<Row> rows) {
    for (const Row& row : rows) builder_.add(row);
  }

  /// The members that 500 clients reach, as letters: "ac" when only the first and the third are
  /// chosen.
  std::string reached(std::vector<std::uint32_t> tried = {}) {
    std::vector<BackendId> ids;
    for (const std::uint32_t id : tried) ids.push_back(BackendId{id});
    const auto counts = spread(builder_.build(), 500, ids);
    std::string letters;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      if (counts[i] != 0) letters += static_cast<char>('a' + i);
    }
    return letters;
  }

  PickResult result(std::vector<BackendId> tried = {}) {
    const GreetingPool pool = builder_.build();
    const Pick pick = pool.pick(client(1, tried));
    if (pick.member != nullptr) Pool::release(*pick.member->state);
    return pick.result;
  }
};
INSTANTIATE_TEST_SUITE_P(schedulers, EveryScheduler, testing::ValuesIn(kSchedulers),
                         scheduler_name);

TEST_P(EveryScheduler, gives_no_session_to_weight_0_down_or_disabled_members) {
  add({{}, {.weight = 0}, {.up = false}, {.enabled = false}, {}, {.weight = 0, .up = false}});
  EXPECT_EQ(reached(), "ae");
}

TEST_P(EveryScheduler, reaches_every_member_and_a_single_one) {
  add({{.weight = 5}});
  EXPECT_EQ(reached(), "a");
  add({{.weight = 3}, {.weight = 9}, {.weight = 4}});
  EXPECT_EQ(reached(), "abcd");
}

TEST_P(EveryScheduler, has_nothing_to_offer_from_an_empty_pool) {
  EXPECT_EQ(result(), PickResult::no_backend);
  add({{.weight = 0},
       {.enabled = false},
       {.up = false, .enabled = false},
       {.weight = 0, .up = false}});
  EXPECT_EQ(result(), PickResult::no_backend);
}

TEST_P(EveryScheduler, tries_the_down_members_when_nobody_is_up_unless_told_to_refuse) {
  add({{.up = false}, {.up = false}, {.up = false, .enabled = false}, {.weight = 0, .up = false}});
  EXPECT_EQ(reached(), "ab");
  builder_.spec.when_all_down = WhenAllDown::refuse;
  EXPECT_EQ(result(), PickResult::no_backend);
}

TEST_P(EveryScheduler, never_chooses_a_tried_member) {
  add({{}, {}, {.weight = 50}, {}});
  EXPECT_EQ(reached({2}), "abd");
  EXPECT_EQ(reached({2, 0}), "bd");
  EXPECT_EQ(reached({2, 0, 3}), "b");
  EXPECT_EQ(reached({2, 0, 3, 1}), "");
  EXPECT_EQ(result({BackendId{0}, BackendId{1}, BackendId{2}, BackendId{3}}),
            PickResult::no_backend);
}

/// Each session gives up on every member it reaches: it meets each exactly once, up ones before
/// down ones, tier by tier.
TEST_P(EveryScheduler, offers_a_session_every_member_once_and_those_up_first) {
  add({{.tier = 0},
       {.tier = 0, .up = false},
       {.tier = 1},
       {.tier = 1, .up = false},
       {.tier = 2},
       {.tier = 0}});
  const GreetingPool pool = builder_.build();
  for (std::uint32_t i = 0; i < 50; ++i) {
    std::vector<BackendId> tried;
    std::string order;
    while (tried.size() < 10) {
      const Pick pick = pool.pick(client(i, tried));
      if (pick.result != PickResult::chosen) break;
      tried.push_back(pick.member->id);
      order += static_cast<char>('a' + pick.member->id.value);
    }
    EXPECT_TRUE(order == "afcebd" || order == "facebd") << order;
  }
}

TEST_P(EveryScheduler, says_full_when_all_are_and_no_backend_when_all_were_tried) {
  add({{.max_sessions = 2}, {.max_sessions = 1}});
  const GreetingPool pool = builder_.build();
  const BackendId a{0};
  const BackendId both[] = {BackendId{0}, BackendId{1}};
  for (std::uint32_t i = 0; i < 3; ++i) EXPECT_EQ(pool.pick(client(i)).result, PickResult::chosen);
  EXPECT_EQ(pool.pick(client(3)).result, PickResult::full);
  EXPECT_EQ(pool.pick(client(3, {&a, 1})).result, PickResult::full);
  EXPECT_EQ(pool.pick(client(3, both)).result, PickResult::no_backend);
  EXPECT_EQ(builder_.sessions(0), 2u);
  EXPECT_EQ(builder_.sessions(1), 1u);
  Pool::release(builder_.states[1]);
  EXPECT_EQ(pool.pick(client(4)).member->id.value, 1u);
}

/// A limit lowered under live sessions: nothing is chosen until enough have ended.
TEST_P(EveryScheduler, waits_until_a_lowered_limit_is_reached_from_above) {
  add({{.max_sessions = 2}});
  builder_.states[0].sessions = 4;
  EXPECT_EQ(result(), PickResult::full);
  builder_.states[0].sessions = 2;
  EXPECT_EQ(result(), PickResult::full);
  builder_.states[0].sessions = 1;
  EXPECT_EQ(result(), PickResult::chosen);
}

TEST_P(EveryScheduler, full_members_make_others_wait_not_the_down_ones_work) {
  add({{.max_sessions = 1}, {.up = false}});
  builder_.states[0].sessions = 1;
  for (const Overflow overflow : {Overflow::queue, Overflow::next_tier}) {
    builder_.spec.overflow = overflow;
    EXPECT_EQ(result(), PickResult::full);
  }
  EXPECT_EQ(reached({0}), "b");
}

TEST_P(EveryScheduler, overflows_into_the_next_tiers_when_asked_to) {
  add({{.max_sessions = 10},
       {.max_sessions = 10},
       {.max_sessions = 7, .tier = 3},
       {.max_sessions = 5, .tier = 8}});
  const GreetingPool queueing = builder_.build();
  for (std::uint32_t i = 0; i < 20; ++i)
    ASSERT_EQ(queueing.pick(client(i)).result, PickResult::chosen);
  EXPECT_EQ(result(), PickResult::full);
  builder_.spec.overflow = Overflow::next_tier;
  const GreetingPool pool = builder_.build();
  for (std::uint32_t i = 0; i < 7; ++i) EXPECT_EQ(pool.pick(client(i)).member->id.value, 2u);
  for (std::uint32_t i = 0; i < 5; ++i) EXPECT_EQ(pool.pick(client(i)).member->id.value, 3u);
  EXPECT_EQ(pool.pick(client(0)).result, PickResult::full);
  Pool::release(builder_.states[1]);
  EXPECT_EQ(pool.pick(client(0)).member->id.value, 1u);
}

/// All that overflows from one full member goes evenly over two of the next tier: two steps a
/// session must not fall into step with two members.
TEST_P(EveryScheduler, overflow_is_spread_over_the_next_tier) {
  add({{.max_sessions = 1}, {.max_sessions = 1}, {.tier = 1}, {.tier = 1}});
  builder_.states[0].sessions = builder_.states[1].sessions = 1;
  builder_.spec.overflow = Overflow::next_tier;
  const auto counts = spread(builder_.build(), 1000);
  EXPECT_NEAR(counts[2], 500, 60);
  EXPECT_EQ(counts[2] + counts[3], 1000u);
}

TEST_P(EveryScheduler, retries_of_two_dead_tiers_are_spread_over_the_third) {
  add({{}, {.tier = 1}, {.tier = 2}, {.tier = 2}, {.tier = 2}});
  const auto counts = served(builder_.build(), 3000, {0, 1});
  for (const std::size_t member : {2u, 3u, 4u}) EXPECT_NEAR(counts[member], 1000, 120);
}

TEST_P(EveryScheduler, works_with_a_thousand_members) {
  for (int i = 0; i < 1000; ++i)
    builder_.add({.weight = 1 + static_cast<std::uint32_t>(i) % 5, .max_sessions = 3});
  const GreetingPool pool = builder_.build();
  for (std::uint32_t i = 0; i < 3000; ++i)
    ASSERT_EQ(pool.pick(client(i)).result, PickResult::chosen) << i;
  EXPECT_EQ(pool.pick(client(0)).result, PickResult::full);
  for (std::size_t i = 0; i < 1000; ++i) EXPECT_EQ(builder_.sessions(i), 3u);
}

/// Any pool at all, any session: a pick is a member that was allowed, and one is found whenever
/// there is one.
TEST_P(EveryScheduler, picks_only_the_allowed_and_whenever_there_is_one) {
  const Scheduler scheduler = GetParam();
  EXPECT_TRUE(rc::check([scheduler] {
    PoolBuilder builder(scheduler);
    builder.spec.when_all_down = *rc::gen::element(WhenAllDown::attempt, WhenAllDown::refuse);
    builder.spec.overflow = *rc::gen::element(Overflow::queue, Overflow::next_tier);
    builder.spec.min_up = *rc::gen::inRange(0u, 4u);
    builder.spec.preempt = *rc::gen::arbitrary<bool>();
    builder.state.active_tier = *rc::gen::inRange(0u, 4u);
    const auto size = *rc::gen::inRange<std::size_t>(0, 10);
    std::vector<BackendId> tried;
    bool usable = false;
    for (std::size_t i = 0; i < size; ++i) {
      const Member& member = builder.add({.weight = *rc::gen::inRange(0u, 4u),
                                          .max_sessions = *rc::gen::inRange(0u, 3u),
                                          .tier = *rc::gen::inRange(0u, 3u),
                                          .up = *rc::gen::inRange(0, 3) != 0,
                                          .enabled = *rc::gen::inRange(0, 4) != 0});
      builder.states[i].sessions = *rc::gen::inRange(0u, 3u);
      const bool was_tried = *rc::gen::inRange(0, 3) == 0;
      if (was_tried) tried.push_back(member.id);
      usable = usable || (member.enabled && member.weight != 0 && !was_tried &&
                          (member.up || builder.spec.when_all_down == WhenAllDown::attempt));
    }
    const GreetingPool pool = builder.build();
    const Pick pick = pool.pick(client(*rc::gen::inRange(0u, 1000u), tried));
    RC_ASSERT((pick.result == PickResult::no_backend) == !usable);
    RC_ASSERT((pick.result == PickResult::chosen) == (pick.member != nullptr));
    if (pick.member == nullptr) return;
    const Member& member = *pick.member;
    RC_ASSERT(member.enabled && member.weight != 0);
    RC_ASSERT(std::find(tried.begin(), tried.end(), member.id) == tried.end());
    RC_ASSERT(member.up || builder.spec.when_all_down == WhenAllDown::attempt);
    RC_ASSERT(member.max_sessions == 0 || member.state->sessions <= member.max_sessions);
  }));
}

// ---- the tier in use ----

struct Step {
  std::vector<bool> up;  ///< of a, b (tier 0) and c, d (tier 1)
  std::string reached;
};

class Tiers : public testing::Test {
 protected:
  PoolBuilder builder_;

  void follow(const std::vector<Step>& steps) {
    for (std::size_t s = 0; s < steps.size(); ++s) {
      for (std::size_t i = 0; i < steps[s].up.size(); ++i)
        builder_.spec.members[i].up = steps[s].up[i];
      const auto counts = spread(builder_.build(), 100);
      std::string letters;
      for (std::size_t i = 0; i < counts.size(); ++i) {
        if (counts[i] != 0) letters += static_cast<char>('a' + i);
      }
      EXPECT_EQ(letters, steps[s].reached) << "step " << s;
    }
  }
};

TEST_F(Tiers, the_lower_tier_is_used_as_long_as_it_has_min_up_and_again_when_it_has) {
  for (const Row row : {Row{}, Row{}, Row{.tier = 1}, Row{.tier = 1}}) builder_.add(row);
  follow({{{true, true, true, true}, "ab"},
          {{true, false, true, true}, "a"},
          {{false, false, true, true}, "cd"},
          {{false, true, true, true}, "b"},
          {{false, false, false, true}, "d"},
          {{false, false, false, false}, "ab"},
          {{true, true, true, true}, "ab"}});
}

TEST_F(Tiers, min_up_2_leaves_a_tier_of_one) {
  builder_.spec.min_up = 2;
  for (const Row row : {Row{}, Row{}, Row{.tier = 1}, Row{.tier = 1}}) builder_.add(row);
  follow({{{true, true, true, true}, "ab"},
          {{true, false, true, true}, "cd"},
          {{true, false, false, true}, "a"},  // nobody has two: the lowest that has any
          {{false, false, false, true}, "d"},
          {{true, true, false, true}, "ab"}});
}

TEST_F(Tiers, without_preempt_the_higher_tier_stays_until_it_lacks_min_up) {
  builder_.spec.min_up = 2;
  builder_.spec.preempt = false;
  for (const Row row : {Row{}, Row{}, Row{.tier = 1}, Row{.tier = 1}}) builder_.add(row);
  follow({{{true, true, true, true}, "ab"},
          {{true, false, true, true}, "cd"},
          {{true, true, true, true}, "cd"},  // no way back yet
          {{true, true, true, true}, "cd"},
          {{true, true, true, false}, "ab"},
          {{true, true, true, true}, "ab"}});
  EXPECT_EQ(builder_.state.active_tier, 0u);
}

TEST_F(Tiers, a_lone_backup_counts_as_enough_whatever_min_up_says) {
  builder_.spec.min_up = 2;
  for (const Row row : {Row{}, Row{}, Row{.tier = 1}}) builder_.add(row);
  follow({{{true, false, true}, "c"}, {{true, true, true}, "ab"}, {{true, false, false}, "a"}});
}

TEST_F(Tiers, draining_counts_like_being_down) {
  for (const Row row : {Row{.weight = 0}, Row{.enabled = false}, Row{.tier = 4}}) builder_.add(row);
  follow({{{true, true, true}, "c"}});
  EXPECT_EQ(builder_.state.active_tier, 4u);
  EXPECT_EQ(builder_.build().active_tier(), 4u);
}

TEST_F(Tiers, a_tier_in_use_that_a_reload_removed_is_forgotten) {
  builder_.spec.preempt = false;
  builder_.state.active_tier = 7;
  for (const Row row : {Row{.tier = 1}, Row{.tier = 2}}) builder_.add(row);
  follow({{{true, true}, "a"}});
  EXPECT_EQ(builder_.state.active_tier, 1u);
}

/// A retry goes to the tiers that have min_up before it goes to a tier that was left for having too
/// few.
TEST_F(Tiers, a_retry_prefers_tiers_that_have_min_up) {
  builder_.spec.min_up = 2;
  for (const Row row : {Row{}, Row{.up = false}, Row{.tier = 1}, Row{.tier = 1}, Row{.tier = 2}})
    builder_.add(row);
  const GreetingPool pool = builder_.build();
  const BackendId tried[] = {BackendId{2}, BackendId{3}, BackendId{4}};
  EXPECT_EQ(pool.pick({.tried = {tried, 2}}).member->id.value, 4u);
  EXPECT_EQ(pool.pick({.tried = {tried, 3}}).member->id.value, 0u);
}

/// Tier 0 takes turns whoever asks, tier 1 and all above keep a client where it is.
TEST_F(Tiers, each_tier_has_its_own_scheduler) {
  builder_.spec.tier_schedulers = {config::Scheduler::source_hash};
  for (const Row row :
       {Row{}, Row{}, Row{.tier = 1}, Row{.tier = 1}, Row{.tier = 5}, Row{.tier = 5}})
    builder_.add(row);
  const auto chosen = [this](std::uint32_t who) {
    const GreetingPool pool = builder_.build();
    const Pick pick = pool.pick(client(who));
    Pool::release(*pick.member->state);
    return pick.member->id.value;
  };
  EXPECT_NE(chosen(1), chosen(1));
  for (const std::size_t down : {0u, 2u}) {
    builder_.spec.members[down].up = builder_.spec.members[down + 1].up = false;
    std::set<std::uint32_t> all;
    for (std::uint32_t who = 0; who < 40; ++who) {
      const std::uint32_t first = chosen(who);
      EXPECT_GE(first, down + 2);
      EXPECT_EQ(first, chosen(who));
      all.insert(first);
    }
    EXPECT_EQ(all.size(), 2u);
  }
}

TEST_F(Tiers, a_moved_pool_still_picks) {
  for (const Row row : {Row{}, Row{.tier = 1}}) builder_.add(row);
  GreetingPool first = builder_.build();
  const GreetingPool second = std::move(first);
  const Pick pick = second.pick({});
  EXPECT_EQ(pick.member, &second.members()[0]);
}

}  // namespace
}  // namespace poise::balance::test
