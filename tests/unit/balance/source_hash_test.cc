#include "balance/source_hash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "balance/maglev.h"
#include "pool_builder.h"

/// What source_hash and maglev promise alike: the same source, the same backend; by weight; few
/// sources move. And where they differ: how many.
namespace poise::balance::test {
namespace {

class ByHash : public testing::TestWithParam<config::Scheduler> {};
INSTANTIATE_TEST_SUITE_P(schedulers, ByHash,
                         testing::Values(config::Scheduler::source_hash, config::Scheduler::maglev),
                         scheduler_name);

constexpr std::uint32_t kSources = 20000;

/// The address each source is sent to.
std::vector<Address> homes(const GreetingPool& pool, std::span<const BackendId> tried = {}) {
  std::vector<Address> result;
  for (std::uint32_t i = 0; i < kSources; ++i) {
    const Pick pick = pool.pick(client(i, tried));
    result.push_back(pick.member->address);
    Pool::release(*pick.member->state);
  }
  return result;
}

struct Disruption {
  double moved;       ///< part of all sources that changed their backend
  double collateral;  ///< part of those whose backend did not go, but who moved all the same
};

Disruption compare(const std::vector<Address>& before, const std::vector<Address>& after,
                   const Address& gone) {
  double moved = 0;
  double collateral = 0;
  double others = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (before[i] != gone) ++others;
    if (before[i] == after[i]) continue;
    ++moved;
    if (before[i] != gone) ++collateral;
  }
  return {moved / static_cast<double>(before.size()), collateral / others};
}

TEST_P(ByHash, sends_a_source_to_the_same_member_each_time_whatever_its_port) {
  PoolBuilder builder(GetParam(), {1, 2, 3});
  const GreetingPool pool = builder.build();
  for (std::uint32_t i = 0; i < 100; ++i) {
    const Member* first = pool.pick(client(i)).member;
    for (std::uint16_t port = 1; port < 20; ++port) {
      EXPECT_EQ(pool.pick({.source = numbered(i, port), .random = port}).member, first);
    }
  }
}

TEST_P(ByHash, tells_ipv4_from_ipv6_and_looks_at_every_byte) {
  PoolBuilder builder(GetParam(), std::vector<std::uint32_t>(50, 1));
  const GreetingPool pool = builder.build();
  Address base = *Address::from_ip("2001:db8:1:2:3:4:5:6");
  const Member* home = pool.pick({.source = base}).member;
  for (std::size_t byte = 0; byte < 16; ++byte) {
    int elsewhere = 0;
    for (std::uint8_t flip = 1; flip < 20; ++flip) {
      Address other = base;
      other.ip[byte] = static_cast<std::uint8_t>(other.ip[byte] ^ flip);
      elsewhere += pool.pick({.source = other}).member != home;
    }
    EXPECT_GE(elsewhere, 15) << "byte " << byte;
  }
  int differ = 0;
  for (std::uint32_t i = 0; i < 100; ++i) {
    Address v4 = numbered(i);
    Address v6 = v4;
    v6.family = AF_INET6;
    differ += pool.pick({.source = v4}).member != pool.pick({.source = v6}).member;
  }
  EXPECT_GE(differ, 90);
}

TEST_P(ByHash, spreads_sources_by_weight) {
  struct Case {
    std::vector<std::uint32_t> weights;
  };
  for (const Case& one : {Case{{1, 1, 1}}, Case{{1, 2, 5}}, Case{{100, 1, 100, 50}},
                          Case{std::vector<std::uint32_t>(10, 7)}}) {
    PoolBuilder builder(GetParam(), one.weights);
    const auto counts = spread(builder.build(), 100000);
    const double sum = std::accumulate(one.weights.begin(), one.weights.end(), 0.0);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const double share = one.weights[i] / sum * 100000;
      EXPECT_NEAR(counts[i], share, 0.01 * share + 4 * std::sqrt(share))
          << testing::PrintToString(one.weights);
    }
  }
}

/// Two boxes with the same servers, listed in another order under other ids, one of them named
/// twice.
TEST_P(ByHash, chooses_alike_on_boxes_that_list_the_members_differently) {
  PoolBuilder here(GetParam(), {1, 2, 3, 1, 1, 4, 1});
  here.spec.members[4].address = here.spec.members[3].address;
  PoolBuilder there(GetParam());
  there.states.resize(here.states.size());
  there.spec.members = here.spec.members;
  std::swap(there.spec.members[3].id, there.spec.members[4].id);
  std::reverse(there.spec.members.begin(), there.spec.members.end());
  for (std::size_t i = 0; i < there.spec.members.size(); ++i) {
    there.spec.members[i].id.value += 100;
    there.spec.members[i].state = &there.states[i];
  }
  EXPECT_EQ(homes(here.build()), homes(there.build()));
}

TEST_P(ByHash, tells_members_on_one_address_by_port) {
  PoolBuilder builder(GetParam(), {1, 1, 1, 1});
  for (std::uint16_t i = 0; i < 4; ++i)
    builder.spec.members[i].address = numbered(1, static_cast<std::uint16_t>(25 + i));
  for (const unsigned count : spread(builder.build(), kSources))
    EXPECT_NEAR(count, kSources / 4.0, 400);
}

TEST_P(ByHash, gives_members_of_the_same_address_their_share_each) {
  PoolBuilder builder(GetParam(), {1, 1, 1});
  builder.spec.members[1].address = builder.spec.members[0].address;
  for (const unsigned count : spread(builder.build(), kSources))
    EXPECT_NEAR(count, kSources / 3.0, 400);
}

/// One of ten goes down, and comes back. source_hash moves its sources and no other; maglev a few
/// others too.
TEST_P(ByHash, moves_few_sources_when_one_of_ten_goes_and_none_once_it_is_back) {
  const bool maglev = GetParam() == config::Scheduler::maglev;
  double worst_moved = 0;
  double worst_collateral = 0;
  for (std::size_t gone = 0; gone < 10; ++gone) {
    PoolBuilder builder(GetParam(), std::vector<std::uint32_t>(10, 1));
    const auto before = homes(builder.build());
    builder.spec.members[gone].up = false;
    const auto without = homes(builder.build());
    builder.spec.members[gone].up = true;
    EXPECT_EQ(homes(builder.build()), before);
    EXPECT_EQ(std::count(without.begin(), without.end(), builder.spec.members[gone].address), 0);
    const Disruption disruption = compare(before, without, builder.spec.members[gone].address);
    worst_moved = std::max(worst_moved, disruption.moved);
    worst_collateral = std::max(worst_collateral, disruption.collateral);
    // What the gone one leaves goes to all nine, not to one.
    for (std::size_t other = 0; other < 10; ++other) {
      if (other == gone) continue;
      const Address& address = builder.spec.members[other].address;
      const auto gained = std::count(without.begin(), without.end(), address) -
                          std::count(before.begin(), before.end(), address);
      EXPECT_NEAR(static_cast<double>(gained), kSources / 90.0, 90);
    }
  }
  std::printf(
      "%s, 1 of 10 gone: at worst %.2f %% of the sources moved, %.2f %% of those whose backend "
      "stayed\n",
      name(GetParam()), 100 * worst_moved, 100 * worst_collateral);
  if (maglev) {
    EXPECT_LT(worst_collateral, 0.01);
    EXPECT_LT(worst_moved, 0.115);
  } else {
    EXPECT_EQ(worst_collateral, 0.0);
    EXPECT_LT(worst_moved, 0.11);
  }
}

/// A server added: sources only move to it (source_hash), or nearly so (maglev).
TEST_P(ByHash, moves_few_sources_when_an_eleventh_joins) {
  PoolBuilder builder(GetParam(), std::vector<std::uint32_t>(10, 1));
  const auto before = homes(builder.build());
  builder.add({});
  const auto after = homes(builder.build());
  const Disruption disruption = compare(after, before, builder.spec.members[10].address);
  std::printf("%s, an 11th joined: %.2f %% of the sources moved\n", name(GetParam()),
              100 * disruption.moved);
  EXPECT_LT(disruption.moved, GetParam() == config::Scheduler::maglev ? 0.125 : 0.1);
}

/// Slow start publishes weight after weight: each step must move no more than it has to.
TEST_P(ByHash, moves_few_sources_when_a_weight_changes) {
  PoolBuilder builder(GetParam(), std::vector<std::uint32_t>(5, 10));
  auto before = homes(builder.build());
  for (const std::uint32_t weight : {9u, 8u, 7u, 6u, 5u}) {
    builder.spec.members[2].weight = weight;
    const auto after = homes(builder.build());
    const double moved = compare(before, after, {}).moved;
    EXPECT_LT(moved, GetParam() == config::Scheduler::maglev ? 0.06 : 0.025) << weight;
    before = after;
  }
}

/// A source's second choice is as constant as its first, and the second choices of one member's
/// sources are spread.
TEST_P(ByHash, falls_back_to_the_same_other_member) {
  PoolBuilder builder(GetParam(), {1, 1, 1, 1});
  const GreetingPool pool = builder.build();
  const BackendId dead{2};
  EXPECT_EQ(homes(pool, {&dead, 1}), homes(pool, {&dead, 1}));
  const auto counts = served(pool, kSources, {2});
  EXPECT_EQ(counts[2], 0u);
  for (const std::size_t member : {0u, 1u, 3u})
    EXPECT_NEAR(counts[member], kSources / 3.0, 0.03 * kSources);
}

TEST_P(ByHash, reaches_the_light_member_when_the_heavy_one_was_tried) {
  PoolBuilder builder(GetParam(), {1000000, 1, 1});
  const GreetingPool pool = builder.build();
  const BackendId heavy{0};
  const auto counts = spread(pool, 1000, {&heavy, 1});
  EXPECT_EQ(counts[0], 0u);
  EXPECT_NEAR(counts[1], 500, 100);
  EXPECT_EQ(counts[1] + counts[2], 1000u);
}

TEST_P(ByHash, passes_a_full_member_by) {
  PoolBuilder builder(GetParam());
  for (int i = 0; i < 4; ++i) builder.add({.max_sessions = 50});
  const GreetingPool pool = builder.build();
  for (std::uint32_t i = 0; i < 200; ++i)
    ASSERT_EQ(pool.pick(client(7)).result, PickResult::chosen);
  EXPECT_EQ(pool.pick(client(7)).result, PickResult::full);
}

/// What the schedulers choose is a promise to other boxes and other versions: it must not change by
/// accident.
TEST_P(ByHash, keeps_its_choices_from_version_to_version) {
  PoolBuilder builder(GetParam(), {1, 1, 1, 2, 1});
  const GreetingPool pool = builder.build();
  std::string choices;
  for (std::uint32_t i = 0; i < 40; ++i)
    choices += static_cast<char>('a' + pool.pick(client(i)).member->id.value);
  EXPECT_EQ(choices, GetParam() == config::Scheduler::maglev
                         ? "bdaccabdcbcbdddbdddcdbddcdaedebadbaddedd"
                         : "dcdebdbbaddceaebcbceedddbbcdcbdbdabdedcd");
}

TEST(maglev_table, gives_each_member_its_weight_to_an_entry_or_two) {
  for (const auto& weights : {std::vector<std::uint32_t>{1, 1, 1},
                              {1, 2, 5},
                              {1000, 1, 1},
                              std::vector<std::uint32_t>(1000, 1)}) {
    PoolBuilder builder(config::Scheduler::maglev, weights);
    Group group;
    for (const Member& member : builder.spec.members) group.push_back(&member);
    const auto table = maglev_table(group);
    ASSERT_EQ(table.size(), kMaglevEntries);
    std::vector<double> counts(weights.size());
    for (const std::uint16_t index : table) ++counts[index];
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      EXPECT_NEAR(counts[i], kMaglevEntries * weights[i] / sum, 2.01);
    }
  }
}

}  // namespace
}  // namespace poise::balance::test
