#include "balance/sticky_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "pool_builder.h"

/// The sticky table: what it remembers, for how long, for how many; that it follows a plain map
/// through any sequence of calls; and that workers at once neither lose nor invent entries.
namespace poise::balance::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kKey = 0x5eed;
constexpr BackendId kA{0}, kB{1}, kC{2};

StickyTable::Options options(std::uint32_t entries, std::chrono::milliseconds ttl = 1h) {
  return {.entries = entries, .ttl = ttl, .backends = 8};
}

std::set<Address> sources_in(const StickyTable& table, StickyTable::Time now) {
  std::set<Address> sources;
  table.for_each(now, [&](const StickyEntry& entry) { sources.insert(entry.source); });
  return sources;
}

TEST(StickyTable, first_to_insert_decides) {
  StickyTable table(options(100), kKey);
  EXPECT_EQ(table.find(numbered(1), 0s), std::nullopt);
  const Placement first = table.insert_if_absent(numbered(1), kA, 0s);
  EXPECT_TRUE(first.changed);
  EXPECT_EQ(first.backend, kA);
  const Placement second = table.insert_if_absent(numbered(1), kB, 0s);
  EXPECT_FALSE(second.changed);
  EXPECT_EQ(second.backend, kA);
  EXPECT_EQ(table.find(numbered(1), 0s), kA);
  EXPECT_EQ(table.find(numbered(2), 0s), std::nullopt);
  EXPECT_EQ(table.entries(), 1u);
  EXPECT_EQ(table.entries_of(kA), 1u);
  EXPECT_EQ(table.entries_of(kB), 0u);
}

TEST(StickyTable, moves_only_from_whom_the_mover_thinks_it_has) {
  StickyTable table(options(100), kKey);
  EXPECT_TRUE(table.insert_if_absent(numbered(1), kA, 0s).changed);
  EXPECT_TRUE(table.move(numbered(1), kA, kB, 0s).changed);
  const Placement late = table.move(numbered(1), kA, kC, 0s);
  EXPECT_FALSE(late.changed);
  EXPECT_EQ(late.backend, kB);
  EXPECT_EQ(table.find(numbered(1), 0s), kB);
  EXPECT_EQ(table.entries_of(kA), 0u);
  EXPECT_EQ(table.entries_of(kB), 1u);
  EXPECT_TRUE(table.move(numbered(2), kA, kC, 0s).changed);  // forgotten meanwhile
  EXPECT_EQ(table.find(numbered(2), 0s), kC);
}

TEST(StickyTable, forgets_after_the_time_to_live_without_a_session_and_not_before) {
  StickyTable table(options(100, 160s), kKey);
  EXPECT_TRUE(table.insert_if_absent(numbered(1), kA, 1000s).changed);
  EXPECT_TRUE(table.insert_if_absent(numbered(2), kB, 1000s).changed);
  EXPECT_EQ(table.find(numbered(1), 1159s), kA);  // renewed
  EXPECT_EQ(table.find(numbered(2), 1160s), std::nullopt);
  EXPECT_EQ(table.entries_of(kB), 0u);
  EXPECT_EQ(table.find(numbered(1), 1318s), kA);
  EXPECT_EQ(table.find(numbered(1), 2000s), std::nullopt);
  EXPECT_EQ(table.entries(), 0u);
}

/// A lookup within ttl/16 of the last renewal doesn't renew.
TEST(StickyTable, renews_at_most_a_sixteenth_late) {
  StickyTable table(options(100, 160s), kKey);
  EXPECT_TRUE(table.insert_if_absent(numbered(1), kA, 0s).changed);
  EXPECT_EQ(table.find(numbered(1), 10s), kA);
  EXPECT_EQ(table.find(numbered(1), 160s), std::nullopt);
  EXPECT_TRUE(table.insert_if_absent(numbered(1), kA, 0s).changed);
  EXPECT_EQ(table.find(numbered(1), 11s), kA);
  EXPECT_EQ(table.find(numbered(1), 160s), kA);
}

TEST(StickyTable, an_inserter_after_the_end_of_an_entry_decides_anew) {
  StickyTable table(options(100, 10s), kKey);
  EXPECT_TRUE(table.insert_if_absent(numbered(1), kA, 0s).changed);
  EXPECT_TRUE(table.insert_if_absent(numbered(1), kB, 10s).changed);
  EXPECT_EQ(table.find(numbered(1), 10s), kB);
  EXPECT_EQ(table.entries(), 1u);
}

TEST(StickyTable, a_clock_a_little_behind_is_no_harm) {
  StickyTable table(options(100, 10s), kKey);
  EXPECT_TRUE(table.insert_if_absent(numbered(1), kA, 100s).changed);
  EXPECT_EQ(table.find(numbered(1), 99s), kA);
  EXPECT_EQ(table.expire(99s), 0u);
}

TEST(StickyTable, expire_takes_what_has_outlived_its_time) {
  StickyTable table(options(1000, 10s), kKey);
  for (std::uint32_t i = 0; i < 100; ++i)
    EXPECT_TRUE(table.insert_if_absent(numbered(i), kA, std::chrono::seconds(i)).changed);
  EXPECT_EQ(sources_in(table, 99s).size(), 10u);  // whether taken away yet or not
  table.expire(99s);
  EXPECT_EQ(table.entries(), 10u);
  EXPECT_EQ(table.entries_of(kA), 10u);
}

/// A hundred times more sources than entries: bounded all the time, and what is kept is recent.
TEST(StickyTable, stays_within_its_bound_and_keeps_the_recent) {
  constexpr std::uint32_t kEntries = 1600;
  StickyTable table(options(kEntries), kKey);
  for (std::uint32_t i = 0; i < 100 * kEntries; ++i) {
    EXPECT_TRUE(table.insert_if_absent(numbered(i), kA, 0s).changed);
    ASSERT_LE(table.entries(), kEntries);
  }
  EXPECT_EQ(table.entries(), kEntries);
  std::uint32_t recent = 0;
  for (std::uint32_t i = 99 * kEntries; i < 100 * kEntries; ++i)
    recent += table.find(numbered(i), 0s).has_value();
  EXPECT_GT(recent, kEntries * 8 / 10);  // all, if the hash filled all shards alike
  EXPECT_EQ(table.find(numbered(0), 0s), std::nullopt);
}

TEST(StickyTable, a_source_that_keeps_coming_survives_a_flood) {
  StickyTable table(options(1600), kKey);
  EXPECT_TRUE(table.insert_if_absent(numbered(0), kB, 0s).changed);
  for (std::uint32_t i = 1; i < 100000; ++i) {
    const std::chrono::seconds now(i / 20);  // 20 new sources a second: 80 s fill the table
    EXPECT_TRUE(table.insert_if_absent(numbered(i), kA, now).changed);
    if (i % 400 != 0) continue;
    ASSERT_EQ(table.find(numbered(0), now), kB) << i;
  }
}

TEST(StickyTable, erases_by_backend_by_network_and_all) {
  StickyTable table(options(1000), kKey);
  for (std::uint32_t i = 0; i < 300; ++i)
    EXPECT_TRUE(table.insert_if_absent(numbered(i), BackendId{i % 3}, 0s).changed);
  EXPECT_EQ(table.erase_backend(kB), 100u);
  EXPECT_EQ(table.entries_of(kB), 0u);
  EXPECT_EQ(table.find(numbered(1), 0s), std::nullopt);
  EXPECT_EQ(table.find(numbered(2), 0s), kC);
  const Network network{*Address::from_ip("10.0.1.0"), 24};  // 256..299, two thirds of them left
  std::uint32_t inside = 0;
  for (const Address& source : sources_in(table, 0s)) inside += network.contains(source);
  EXPECT_EQ(inside, 29u);
  EXPECT_EQ(table.erase_network(network), inside);
  EXPECT_EQ(table.erase_all(), 200u - inside);
  EXPECT_EQ(table.entries(), 0u);
  EXPECT_EQ(table.entries_of(kA), 0u);
}

TEST(StickyTable, reload_keeps_the_newest_and_applies_the_new_time_to_live) {
  StickyTable table(options(16000), kKey);
  for (std::uint32_t i = 0; i < 10000; ++i)
    EXPECT_TRUE(
        table.insert_if_absent(numbered(i), kA, std::chrono::milliseconds(100 * i)).changed);
  table.configure(options(1600));
  EXPECT_EQ(table.entries(), 1600u);
  const auto kept = sources_in(table, 1000s);
  std::uint32_t recent = 0;
  for (std::uint32_t i = 8000; i < 10000; ++i) recent += kept.contains(numbered(i)) ? 1 : 0;
  EXPECT_GT(recent, 1550u);
  for (std::uint32_t i = 0; i < 7000; ++i) ASSERT_FALSE(kept.contains(numbered(i)));
  table.configure(options(32000, 50s));
  EXPECT_EQ(table.entries(), 1600u);
  EXPECT_LE(sources_in(table, 1000s).size(), 500u);
  EXPECT_EQ(table.find(numbered(9999), 1000s), kA);
  for (std::uint32_t i = 10000; i < 20000; ++i)
    EXPECT_TRUE(table.insert_if_absent(numbered(i), kB, 1000s).changed);
  EXPECT_EQ(table.entries_of(kB), 10000u);
}

TEST(StickyTable, no_backend_takes_more_than_its_share_of_new_sources) {
  StickyTable table(options(10000), kKey);
  EXPECT_TRUE(table.may_take(kA, 0.5));
  for (std::uint32_t i = 0; i < 4000; ++i) {
    // The scheduler wants A for all: a webmail host's users, say.
    const BackendId chosen = table.may_take(kA, 0.4) ? kA : kB;
    EXPECT_TRUE(table.insert_if_absent(numbered(i), chosen, 0s).changed);
    if (i < 1000) continue;
    ASSERT_LE(table.entries_of(kA), 0.4 * table.entries() + 1);
  }
  EXPECT_NEAR(table.entries_of(kA), 1600, 2);
  EXPECT_FALSE(table.may_take(kB, 0.4));
  EXPECT_TRUE(table.may_take(kC, 0.4));
  EXPECT_TRUE(table.may_take(kB, 0));
}

TEST(StickyTable, for_each_gives_what_find_gives) {
  StickyTable table(options(1000), kKey);
  for (std::uint32_t i = 0; i < 50; ++i)
    EXPECT_TRUE(table.insert_if_absent(numbered(i), BackendId{i % 3}, 100s).changed);
  std::uint32_t seen = 0;
  table.for_each(130s, [&](const StickyEntry& entry) {
    ++seen;
    EXPECT_EQ(entry.idle, 30s);
    EXPECT_EQ(table.find(entry.source, 130s), entry.backend);  // no mutex is held: no deadlock
  });
  EXPECT_EQ(seen, 50u);
}

/// Any sequence of calls, beside a plain map that never fills up.
TEST(StickyTable, does_what_a_plain_map_does) {
  struct Known {
    BackendId backend;
    std::int64_t used;
  };
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Random random{seed};
    StickyTable table(options(100000, 200s), kKey + seed);
    std::map<Address, Known> model;
    std::int64_t clock = 0;
    for (int step = 0; step < 5000; ++step) {
      clock += static_cast<std::int64_t>(random() % 3);
      const std::chrono::seconds now(clock);
      const Address source = numbered(static_cast<std::uint32_t>(random() % 200));
      const BackendId backend{static_cast<std::uint32_t>(random() % 5)};
      auto known = model.find(source);
      if (known != model.end() && clock - known->second.used >= 200) {
        model.erase(known);
        known = model.end();
      }
      const auto renew = [&] {
        if (clock - known->second.used > 10) known->second.used = clock;
      };
      switch (random() % 8) {
        case 0:
        case 1:
        case 2: {
          const auto found = table.find(source, now);
          ASSERT_EQ(found.has_value(), known != model.end()) << "seed " << seed;
          if (!found) break;
          ASSERT_EQ(*found, known->second.backend);
          renew();
          break;
        }
        case 3:
        case 4: {
          const Placement placed = table.insert_if_absent(source, backend, now);
          ASSERT_EQ(placed.changed, known == model.end()) << "seed " << seed;
          if (placed.changed)
            model[source] = {backend, clock};
          else
            renew();
          ASSERT_EQ(placed.backend, model[source].backend);
          break;
        }
        case 5:
        case 6: {
          const BackendId from{static_cast<std::uint32_t>(random() % 5)};
          const Placement placed = table.move(source, from, backend, now);
          if (known == model.end()) {
            model[source] = {backend, clock};
          } else {
            renew();
            ASSERT_EQ(placed.changed, known->second.backend == from);
            if (placed.changed) known->second.backend = backend;
          }
          ASSERT_EQ(placed.backend, model[source].backend) << "seed " << seed;
          break;
        }
        default: {
          if (random() % 50 != 0) break;
          std::erase_if(model, [&](const auto& entry) { return clock - entry.second.used >= 200; });
          table.expire(now);
          const auto gone =
              std::erase_if(model, [&](const auto& e) { return e.second.backend == backend; });
          ASSERT_EQ(table.erase_backend(backend), gone) << "seed " << seed;
          ASSERT_EQ(table.entries(), model.size());
          for (std::uint32_t id = 0; id < 5; ++id) {
            const auto has = std::count_if(model.begin(), model.end(), [&](const auto& e) {
              return e.second.backend == BackendId{id};
            });
            ASSERT_EQ(table.entries_of(BackendId{id}), has);
          }
        }
      }
    }
  }
}

/// Four workers insert, look up and move while control reloads and erases. Whoever inserted a
/// source was alone, and at the end the counts are those of the entries there are.
TEST(StickyTableConcurrency, workers_agree_and_counts_hold) {
  constexpr std::uint32_t kWorkers = 4, kSources = 400;
  StickyTable table(options(100000), kKey);
  std::vector<std::vector<BackendId>> decided(kWorkers, std::vector<BackendId>(kSources));
  std::vector<std::thread> workers;
  std::vector<std::atomic<unsigned>> inserters(kSources);
  for (std::uint32_t w = 0; w < kWorkers; ++w) {
    workers.emplace_back([&, w] {
      for (std::uint32_t i = 0; i < kSources; ++i) {
        const Placement placed = table.insert_if_absent(numbered(i), BackendId{w}, 1s);
        inserters[i] += placed.changed;
        decided[w][i] = placed.backend;
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  for (std::uint32_t i = 0; i < kSources; ++i) {
    EXPECT_EQ(inserters[i], 1u);
    for (std::uint32_t w = 0; w < kWorkers; ++w) EXPECT_EQ(decided[w][i], decided[0][i]);
  }
  // All of A's move: one mover each, and everybody learns whom it moved to.
  workers.clear();
  std::vector<std::atomic<unsigned>> movers(kSources);
  const std::vector<BackendId> from = decided[0];
  for (std::uint32_t w = 0; w < kWorkers; ++w) {
    workers.emplace_back([&, w] {
      for (std::uint32_t i = 0; i < kSources; ++i) {
        const Placement placed = table.move(numbered(i), from[i], BackendId{4 + w}, 1s);
        movers[i] += placed.changed;
        decided[w][i] = placed.backend;
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  for (std::uint32_t i = 0; i < kSources; ++i) {
    EXPECT_EQ(movers[i], 1u);
    EXPECT_GE(decided[0][i].value, 4u);
    for (std::uint32_t w = 0; w < kWorkers; ++w)
      EXPECT_EQ(decided[w][i], table.find(numbered(i), 1s));
  }
}

TEST(StickyTableConcurrency, everything_at_once_leaves_true_counts) {
  constexpr std::uint32_t kWorkers = 4, kRounds = 10000;
  StickyTable table(options(320, 20s), kKey);
  std::vector<std::thread> threads;
  for (std::uint32_t w = 0; w < kWorkers; ++w) {
    threads.emplace_back([&, w] {
      Random random{w};
      for (std::uint32_t round = 0; round < kRounds; ++round) {
        const std::chrono::seconds now(round / 100);
        const Address source = numbered(static_cast<std::uint32_t>(random() % 1000));
        const BackendId one{static_cast<std::uint32_t>(random() % 8)};
        const BackendId other{static_cast<std::uint32_t>(random() % 8)};
        const auto found = table.find(source, now);
        if (!found)
          static_cast<void>(table.insert_if_absent(source, one, now));
        else
          table.move(source, *found, other, now);
        static_cast<void>(table.may_take(one, 0.5));
      }
    });
  }
  threads.emplace_back([&] {
    for (std::uint32_t round = 0; round < 200; ++round) {
      table.configure(options(160 + round % 7 * 160, 20s + std::chrono::seconds(round % 3)));
      table.erase_backend(BackendId{round % 8});
      table.expire(std::chrono::seconds(round / 2));
      std::uint32_t seen = 0;
      table.for_each(0s, [&](const StickyEntry&) { ++seen; });
      if (seen > 160 + 6 * 160) ADD_FAILURE() << seen;
    }
  });
  for (std::thread& thread : threads) thread.join();
  std::map<std::uint32_t, std::uint32_t> counts;
  std::uint32_t all = 0;
  table.for_each(0s, [&](const StickyEntry& entry) {
    ++counts[entry.backend.value];
    ++all;
  });
  EXPECT_EQ(table.entries(), all);
  for (std::uint32_t id = 0; id < 8; ++id) EXPECT_EQ(table.entries_of(BackendId{id}), counts[id]);
}

/// What a table tells the other box of a pair, all shards together.
std::map<Address, BackendId> told(StickyTable& table, StickyTable::Time now) {
  std::map<Address, BackendId> all;
  std::vector<StickyEntry> entries;
  for (std::size_t shard = 0; shard < StickyTable::kShards; ++shard) {
    table.collect(shard, now, entries);
    for (const StickyEntry& each : entries) all[each.source] = each.backend;
  }
  return all;
}

TEST(StickyTable, tells_what_is_new_moved_or_renewed_once) {
  StickyTable table(options(1000), kKey);
  static_cast<void>(table.insert_if_absent(numbered(1), kA, 0s));
  EXPECT_TRUE(told(table, 0s).empty());  // nobody asked it to remember
  table.remember_changes(true);
  static_cast<void>(table.insert_if_absent(numbered(2), kA, 0s));
  static_cast<void>(table.insert_if_absent(numbered(3), kA, 0s));
  table.move(numbered(3), kA, kB, 0s);
  EXPECT_EQ(told(table, 0s), (std::map<Address, BackendId>{{numbered(2), kA}, {numbered(3), kB}}));
  EXPECT_TRUE(told(table, 0s).empty());
  static_cast<void>(table.find(numbered(2), 5s));  // too soon to be a renewal
  EXPECT_TRUE(told(table, 5s).empty());
  static_cast<void>(table.find(numbered(2), 60s));
  EXPECT_EQ(told(table, 60s).size(), 1u);
  table.all_changed();
  EXPECT_EQ(told(table, 60s).size(), 3u);
}

TEST(StickyTable, tells_a_whole_shard_when_too_much_changed) {
  StickyTable table(options(100'000), kKey);
  table.remember_changes(true);
  const std::uint32_t count = 3 * StickyTable::kShards * StickyTable::kChangedMax;
  for (std::uint32_t i = 0; i < count; ++i)
    static_cast<void>(table.insert_if_absent(numbered(i), kA, 0s));
  EXPECT_EQ(told(table, 0s).size(), table.entries());
  EXPECT_GT(table.entries(), count / 2);
  EXPECT_TRUE(told(table, 0s).empty());
}

TEST(StickyTable, adopts_what_was_used_later) {
  StickyTable table(options(100), kKey);
  table.remember_changes(true);
  const auto now = 1000s;
  table.adopt({numbered(1), kA, 10s}, now);
  EXPECT_EQ(table.look(numbered(1), now), kA);
  EXPECT_EQ(table.entries_of(kA), 1u);
  table.adopt({numbered(1), kB, 20s}, now);  // older: ours stays
  EXPECT_EQ(table.look(numbered(1), now), kA);
  table.adopt({numbered(1), kB, 5s}, now);
  EXPECT_EQ(table.look(numbered(1), now), kB);
  EXPECT_EQ(table.entries(), 1u);
  EXPECT_EQ(table.entries_of(kA), 0u);
  EXPECT_EQ(table.entries_of(kB), 1u);
  EXPECT_TRUE(told(table, now).empty());  // the peer knows
  table.adopt({numbered(2), kA, 3'590s}, 10'000s);
  EXPECT_EQ(table.look(numbered(2), 10'005s), kA);
  EXPECT_EQ(table.look(numbered(2), 10'011s), std::nullopt);  // its hour is over
}

}  // namespace
}  // namespace poise::balance::test
