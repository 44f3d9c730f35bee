#include "balance/round_robin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <atomic>
#include <numeric>
#include <thread>

#include "pool_builder.h"

namespace poise::balance::test {
namespace {

using testing::ElementsAre;

/// nginx's algorithm word for word (ngx_http_upstream_get_peer), to compare with.
std::vector<std::uint16_t> nginx_sequence(const std::vector<std::uint32_t>& weights,
                                          std::size_t length) {
  std::vector<std::int64_t> current(weights.size());
  const auto total = std::accumulate(weights.begin(), weights.end(), std::int64_t{0});
  std::vector<std::uint16_t> sequence;
  while (sequence.size() < length) {
    std::size_t best = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      current[i] += weights[i];
      if (current[i] > current[best]) best = i;
    }
    current[best] -= total;
    sequence.push_back(static_cast<std::uint16_t>(best));
  }
  return sequence;
}

TEST(smooth_period, is_the_one_known_from_nginx) {
  struct Case {
    std::vector<std::uint32_t> weights;
    std::vector<std::uint16_t> period;
  };
  const Case cases[] = {
      {{5, 1, 1}, {0, 0, 1, 0, 2, 0, 0}},  // a a b a c a a
      {{1, 1, 1}, {0, 1, 2}},
      {{7}, {0}},
      {{2, 1}, {0, 1, 0}},
      {{10, 5}, {0, 1, 0}},
      {{1, 2, 3}, {2, 1, 0, 2, 1, 2}},
      {{4, 2, 4}, {0, 2, 1, 0, 2}},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(smooth_period(one.weights), one.period) << testing::PrintToString(one.weights);
  }
}

/// The table is built by classes of weight; nginx's own walk over all members must give the same,
/// whatever the weights.
RC_GTEST_PROP(smooth_period, equals_the_reference_walk, ()) {
  const auto weights =
      *rc::gen::suchThat(rc::gen::container<std::vector<std::uint32_t>>(rc::gen::inRange(1u, 40u)),
                         [](const auto& list) { return !list.empty(); });
  const auto period = smooth_period(weights);
  RC_ASSERT(period == nginx_sequence(weights, period.size()));
}

RC_GTEST_PROP(smooth_period, gives_each_member_its_weight_exactly, ()) {
  const auto weights =
      *rc::gen::suchThat(rc::gen::container<std::vector<std::uint32_t>>(rc::gen::inRange(1u, 300u)),
                         [](const auto& list) { return !list.empty(); });
  const auto period = smooth_period(weights);
  std::vector<std::size_t> counts(weights.size());
  for (const std::uint16_t index : period) ++counts[index];
  const std::size_t sum = std::accumulate(weights.begin(), weights.end(), std::size_t{0});
  for (std::size_t i = 0; i < weights.size(); ++i)
    RC_ASSERT(counts[i] * sum == weights[i] * period.size());
}

/// Smoothness of two: with weights m > n nobody waits longer than it must, so no run of the heavy
/// member is longer than ceil(m/n), and the light one never comes twice in a row (the end of a
/// period joins its start).
RC_GTEST_PROP(smooth_period, has_no_run_longer_than_necessary, ()) {
  const auto light = *rc::gen::inRange(1u, 50u);
  const auto heavy = light + *rc::gen::inRange(1u, 400u);
  const auto period = smooth_period(std::vector<std::uint32_t>{heavy, light});
  std::size_t run = 0;
  std::size_t longest[2] = {};
  for (std::size_t i = 0; i < 2 * period.size(); ++i) {
    const auto now = period[i % period.size()];
    run = i > 0 && period[(i - 1) % period.size()] == now ? run + 1 : 1;
    longest[now] = std::max(longest[now], run);
  }
  RC_ASSERT(longest[0] == (heavy + light - 1) / light);
  RC_ASSERT(longest[1] == 1u);
}

/// Smoothness of many: after any number of picks each member is within a pick or so of its share.
RC_GTEST_PROP(smooth_period, keeps_everybody_near_its_share_all_along, ()) {
  const auto weights =
      *rc::gen::suchThat(rc::gen::container<std::vector<std::uint32_t>>(rc::gen::inRange(1u, 30u)),
                         [](const auto& list) { return list.size() > 1; });
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<double> counts(weights.size());
  double picks = 0;
  for (const std::uint16_t index : smooth_period(weights)) {
    ++counts[index];
    ++picks;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      RC_ASSERT(std::abs(counts[i] - picks * weights[i] / sum) <
                static_cast<double>(weights.size()));
    }
  }
}

TEST(smooth_period, scales_weights_that_would_need_too_many_entries) {
  struct Case {
    std::vector<std::uint32_t> weights;
    std::size_t entries_max;
  };
  std::vector<std::uint32_t> thousand(1000, 1);
  thousand[0] = UINT32_MAX;
  const Case cases[] = {
      {{65521, 65519}, kPeriodMax}, {{UINT32_MAX, UINT32_MAX - 1, 1}, kPeriodMax},
      {{1000003, 999983, 3}, 100},  {{1, UINT32_MAX, 1}, 10},
      {thousand, kPeriodMax},
  };
  for (const Case& one : cases) {
    const auto period = smooth_period(one.weights, one.entries_max);
    EXPECT_LE(period.size(), one.entries_max);
    std::vector<double> counts(one.weights.size());
    for (const std::uint16_t index : period) ++counts[index];
    const double sum = std::accumulate(one.weights.begin(), one.weights.end(), 0.0);
    for (std::size_t i = 0; i < one.weights.size(); ++i) {
      const double count = counts[i];
      const auto size = static_cast<double>(period.size());
      EXPECT_GE(count, 1);
      // Rounding costs each member less than an entry; what others round up to one entry dilutes
      // the rest.
      const auto members = static_cast<double>(one.weights.size());
      EXPECT_NEAR(count, size * one.weights[i] / sum,
                  1 + members * std::max(one.weights[i] / sum, 1 / members));
    }
  }
}

TEST(round_robin, follows_the_smooth_sequence_from_its_start) {
  PoolBuilder builder(config::Scheduler::round_robin, {5, 1, 1});
  const GreetingPool pool = builder.build();
  std::string order;
  for (int i = 0; i < 14; ++i) order += static_cast<char>('a' + pool.pick({}).member->id.value);
  EXPECT_EQ(order,
            "aabacaa"
            "aabacaa");
}

TEST(round_robin, goes_on_where_it_was_when_the_pool_is_published_again) {
  PoolBuilder builder(config::Scheduler::round_robin, {1, 1, 1});
  std::string order;
  for (int i = 0; i < 9; ++i)
    order += static_cast<char>('a' + builder.build().pick({}).member->id.value);
  EXPECT_EQ(order, "abcabcabc");
}

/// 300 connections over three servers from any number of workers, some of them with a retry in
/// between: the connections fall 100/100/100. Each "session" here fails on its first pick with a
/// chance of 1/4 and retries.
TEST(round_robin, spreads_300_picks_100_each_over_any_number_of_threads) {
  for (const int threads : {1, 2, 3, 4, 8, 16}) {
    for (const bool retries : {false, true}) {
      PoolBuilder builder(config::Scheduler::round_robin, {1, 1, 1});
      const GreetingPool pool = builder.build();
      std::atomic<int> left{300};
      std::array<std::atomic<unsigned>, 3> first_picks{};
      std::atomic<unsigned> wrong_retries{0};
      std::vector<std::thread> workers;
      for (int t = 0; t < threads; ++t) {
        workers.emplace_back([&, t] {
          Random random{static_cast<std::uint64_t>(t)};
          while (left.fetch_sub(1) > 0) {
            const BackendId chosen = pool.pick({}).member->id;
            ++first_picks[chosen.value];
            if (!retries || random() % 4 != 0) continue;
            if (pool.pick({.tried = {&chosen, 1}}).member->id == chosen) ++wrong_retries;
          }
        });
      }
      for (std::thread& worker : workers) worker.join();
      for (const auto& count : first_picks)
        EXPECT_EQ(count, 100u) << threads << " threads, retries " << retries;
      EXPECT_EQ(wrong_retries, 0u);
    }
  }
}

/// One of three is dead and not known to be: its third goes half and half to the others, not to its
/// neighbour.
TEST(round_robin, shares_a_dead_members_turns_evenly) {
  for (std::size_t dead = 0; dead < 3; ++dead) {
    for (const std::uint32_t clients : {300u, 3000u, 30000u}) {
      PoolBuilder builder(config::Scheduler::round_robin, {1, 1, 1});
      const auto counts = served(builder.build(), clients, {dead});
      for (std::size_t i = 0; i < 3; ++i) {
        if (i == dead)
          EXPECT_EQ(counts[i], 0u);
        else
          EXPECT_NEAR(counts[i], clients / 2.0, clients * 0.005)
              << "dead: " << dead << ", member " << i;
      }
    }
  }
}

/// The same with sessions that overlap, in an order that would favour the dead one's neighbour if a
/// retry walked on: each session's retry comes when two newer ones have picked.
TEST(round_robin, shares_a_dead_members_turns_evenly_when_retries_come_late) {
  for (const std::size_t delay : {1u, 2u, 3u, 5u, 7u, 100u}) {
    PoolBuilder builder(config::Scheduler::round_robin, {1, 1, 1});
    const GreetingPool pool = builder.build();
    const BackendId dead{1};
    std::array<unsigned, 3> counts{};
    std::deque<std::uint32_t> failed_at;
    for (std::uint32_t i = 0; i < 6000; ++i) {
      const BackendId chosen = pool.pick({}).member->id;
      if (chosen == dead)
        failed_at.push_back(i);
      else
        ++counts[chosen.value];
      while (!failed_at.empty() && failed_at.front() + delay <= i) {
        failed_at.pop_front();
        ++counts[pool.pick({.tried = {&dead, 1}}).member->id.value];
      }
    }
    EXPECT_EQ(counts[1], 0u);
    EXPECT_NEAR(counts[0], counts[2], 60) << delay;
  }
}

/// Sessions that meet one dead member are likelier to have met certain others before; that must not
/// show.
TEST(round_robin, shares_the_turns_of_several_dead_members_by_weight) {
  struct Case {
    std::vector<std::uint32_t> weights;
    std::vector<std::size_t> dead;
  };
  const Case cases[] = {{{1, 4, 2, 4, 3}, {1, 3}}, {{1, 1, 1, 1, 1}, {1, 3}},
                        {{1, 1, 1, 1, 1}, {0, 1}}, {{1, 1, 1, 1, 1, 1, 1}, {0, 2, 4, 6}},
                        {{9, 1, 1, 1}, {0, 1}},    {{100, 1, 1, 2}, {0}}};
  for (const Case& one : cases) {
    PoolBuilder builder(config::Scheduler::round_robin, one.weights);
    constexpr std::uint32_t kClients = 20000;
    const auto counts = served(builder.build(), kClients, one.dead);
    auto alive = one.weights;
    for (const std::size_t dead : one.dead) alive[dead] = 0;
    const double sum = std::accumulate(alive.begin(), alive.end(), 0.0);
    for (std::size_t i = 0; i < alive.size(); ++i) {
      const double share = kClients * alive[i] / sum;
      EXPECT_NEAR(counts[i], share, 0.02 * share)
          << testing::PrintToString(one.weights) << ", member " << i;
    }
  }
}

TEST(round_robin, shares_a_full_members_turns_evenly) {
  PoolBuilder builder;
  builder.add({});
  builder.add({.max_sessions = 10});
  builder.add({});
  builder.add({});
  const GreetingPool pool = builder.build();
  for (int i = 0; i < 3010; ++i) ASSERT_EQ(pool.pick({}).result, PickResult::chosen);
  EXPECT_EQ(builder.sessions(1), 10u);
  for (const std::size_t member : {0u, 2u, 3u}) EXPECT_NEAR(builder.sessions(member), 1000, 10);
}

}  // namespace
}  // namespace poise::balance::test
