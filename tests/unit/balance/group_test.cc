#include "balance/group.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <thread>

#include "pool_builder.h"

/// The parts every scheduler is made of: looking at a member, taking it, and sharing out what is
/// left over.
namespace poise::balance::test {
namespace {

struct GroupOf {
  PoolBuilder builder{config::Scheduler::round_robin};
  PickRequest request;
  Group group;

  explicit GroupOf(const std::vector<PoolBuilder::Row>& rows) {
    for (const auto& row : rows) builder.add(row);
    for (const Member& member : builder.spec.members) group.push_back(&member);
  }
  Search search() { return {request, builder.state, true}; }
};

TEST(search, notes_that_a_member_is_full_by_look_and_by_grip) {
  GroupOf of({PoolBuilder::Row{.max_sessions = 1}});
  Search before = of.search();
  EXPECT_TRUE(before.open(*of.group[0]));
  EXPECT_TRUE(before.take(*of.group[0]));
  EXPECT_FALSE(before.met_full);

  Search look = of.search();
  EXPECT_FALSE(look.open(*of.group[0]));
  EXPECT_TRUE(look.met_full);
  Search grip = of.search();  // as when the look succeeded and then another worker was faster
  EXPECT_FALSE(grip.take(*of.group[0]));
  EXPECT_TRUE(grip.met_full);
  EXPECT_EQ(of.builder.sessions(0), 1u);
}

/// Another worker's getting in between is no reason to say full while there is room. All start
/// together and go on for longer than a time slice, so that they do get in between.
TEST(reserve, a_lost_race_is_not_taken_for_full) {
  constexpr unsigned kThreads = 4;
  constexpr unsigned kEach = 1000000;
  GroupOf of({PoolBuilder::Row{.max_sessions = kThreads * kEach + 1}});
  std::atomic<unsigned> refused{0};
  std::latch start(kThreads);
  std::vector<std::thread> workers;
  for (unsigned t = 0; t < kThreads; ++t) {
    workers.emplace_back([&] {
      start.arrive_and_wait();
      for (unsigned i = 0; i < kEach; ++i) {
        if (!reserve(*of.group[0])) ++refused;
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  EXPECT_EQ(refused, 0u);
  EXPECT_EQ(of.builder.sessions(0), kThreads * kEach);
}

TEST(search, a_tried_member_is_not_full_but_out_of_the_question) {
  GroupOf of({PoolBuilder::Row{.max_sessions = 1}});
  of.builder.states[0].sessions = 1;
  const BackendId tried{0};
  of.request.tried = {&tried, 1};
  Search search = of.search();
  EXPECT_FALSE(search.open(*of.group[0]));
  EXPECT_FALSE(search.take(*of.group[0]));
  EXPECT_FALSE(search.met_full);
}

/// Weights laid end to end, those of tried, full and excepted members cut out: 2 | 3 | (full) | 5.
TEST(draw, maps_a_fraction_to_the_open_members_weights) {
  GroupOf of({{.weight = 2}, {.weight = 3}, {.weight = 7, .max_sessions = 1}, {.weight = 5}});
  of.builder.states[2].sessions = 1;
  constexpr std::uint64_t kTenth = UINT64_MAX / 10 + 1;
  const std::uint32_t expected[] = {0, 0, 1, 1, 1, 3, 3, 3, 3, 3};
  for (std::uint64_t tenth = 0; tenth < 10; ++tenth) {
    Search search = of.search();
    EXPECT_EQ(draw(of.group, search, tenth * kTenth)->id.value, expected[tenth]) << tenth;
  }
  Search search = of.search();
  EXPECT_EQ(draw(of.group, search, 0, of.group[0])->id.value, 1u);
  EXPECT_EQ(draw(of.group, search, UINT64_MAX)->id.value, 3u);
}

TEST(draw, finds_nobody_when_nobody_is_open) {
  GroupOf of({PoolBuilder::Row{.max_sessions = 1}});
  of.builder.states[0].sessions = 1;
  Search search = of.search();
  EXPECT_EQ(draw(of.group, search, 1), nullptr);
  EXPECT_EQ(share_out(of.group, search, 1), nullptr);
  EXPECT_TRUE(search.met_full);
}

}  // namespace
}  // namespace poise::balance::test
