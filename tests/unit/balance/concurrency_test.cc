#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "pool_builder.h"

/// Eight workers pick and release at once. What each sees is watched from outside the pool, with
/// counters of its own.
namespace poise::balance::test {
namespace {

class Hammered : public testing::TestWithParam<config::Scheduler> {};
INSTANTIATE_TEST_SUITE_P(schedulers, Hammered, testing::ValuesIn(kSchedulers), scheduler_name);

TEST_P(Hammered, never_exceeds_max_sessions_and_returns_every_place) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 20000;
  PoolBuilder builder(GetParam());
  builder.spec.overflow = config::Overflow::next_tier;
  const std::vector<std::uint32_t> limits{1, 2, 3, 1, 2};
  for (std::size_t i = 0; i < limits.size(); ++i) {
    builder.add({.weight = 1 + static_cast<std::uint32_t>(i),
                 .max_sessions = limits[i],
                 .tier = i < 3 ? 0u : 1u});
  }
  const GreetingPool pool = builder.build();
  std::vector<std::atomic<std::uint32_t>> held(limits.size());
  std::atomic<unsigned> exceeded{0};
  std::atomic<unsigned> wrong{0};
  std::atomic<unsigned> full{0};

  std::vector<std::thread> workers;
  for (std::uint32_t t = 0; t < kThreads; ++t) {
    workers.emplace_back([&, t] {
      Random random{t};
      std::vector<const Member*> mine;
      const auto let_go = [&](std::size_t index) {
        held[mine[index]->id.value].fetch_sub(1);
        Pool::release(*mine[index]->state);
        mine.erase(mine.begin() + static_cast<std::ptrdiff_t>(index));
      };
      for (std::uint32_t round = 0; round < kRounds; ++round) {
        const BackendId tried{static_cast<std::uint32_t>(random() % limits.size())};
        const Pick pick = pool.pick(
            {numbered(static_cast<std::uint32_t>(random() % 5000)), random(), {&tried, round % 2}});
        if (pick.result == PickResult::chosen) {
          const std::uint32_t id = pick.member->id.value;
          if (held[id].fetch_add(1) + 1 > limits[id]) ++exceeded;
          if (round % 2 == 1 && id == tried.value) ++wrong;
          mine.push_back(pick.member);
        } else {
          if (pick.result != PickResult::full) ++wrong;
          ++full;
        }
        while (!mine.empty() && (mine.size() > 2 || random() % 2 == 0))
          let_go(random() % mine.size());
      }
      while (!mine.empty()) let_go(0);
    });
  }
  for (std::thread& worker : workers) worker.join();
  EXPECT_EQ(exceeded, 0u);
  EXPECT_EQ(wrong, 0u);
  for (std::size_t i = 0; i < limits.size(); ++i) EXPECT_EQ(builder.sessions(i), 0u);
}

/// Places are neither lost nor made up: when everybody only takes, exactly as many succeed as there
/// are places.
TEST_P(Hammered, hands_out_exactly_the_places_there_are) {
  PoolBuilder builder(GetParam());
  for (std::uint32_t i = 0; i < 20; ++i) builder.add({.weight = 1 + i % 3, .max_sessions = 50 + i});
  const GreetingPool pool = builder.build();
  std::atomic<unsigned> chosen{0};
  std::vector<std::thread> workers;
  for (std::uint32_t t = 0; t < 8; ++t) {
    workers.emplace_back([&, t] {
      for (std::uint32_t i = 0; i < 1000; ++i)
        chosen += pool.pick(client(t * 1000 + i)).result == PickResult::chosen;
    });
  }
  for (std::thread& worker : workers) worker.join();
  EXPECT_EQ(chosen, 20u * 50 + 190);
  EXPECT_EQ(pool.pick(client(1)).result, PickResult::full);
}

TEST(release, of_a_place_nobody_holds_is_our_own_bug) {
  BackendState state;
  EXPECT_DEATH(Pool::release(state), "CHECK failed");
}

}  // namespace
}  // namespace poise::balance::test
