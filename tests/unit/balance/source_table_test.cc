#include "balance/source_table.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <deque>
#include <map>
#include <thread>

#include "pool_builder.h"

/// Limits per source: exact for sessions, whatever floods by; bounded in memory; the same as a
/// plain map says; and no session is lost or counted twice by workers at once.
namespace poise::balance::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kKey = 0x5eed;

SourceLimits limits(std::uint32_t sessions, double rate = 0,
                    config::LimitMode mode = config::LimitMode::enforce) {
  return {.sessions = sessions, .rate = Pace(config::Rate{rate}), .mode = mode};
}

std::uint32_t sessions_of(const SourceTable& table, const Address& source) {
  for (const SourceRow& row : table.top(1000000))
    if (row.source == source) return row.sessions;
  return 0;
}

TEST(SourceTable, counts_sessions_up_to_the_limit) {
  SourceTable table(1000, kKey);
  const Admission first = table.admit(numbered(1), 0s, limits(2));
  const Admission second = table.admit(numbered(1), 0s, limits(2));
  const Admission third = table.admit(numbered(1), 0s, limits(2));
  EXPECT_EQ(first.verdict, SourceVerdict::ok);
  EXPECT_EQ(second.verdict, SourceVerdict::ok);
  EXPECT_EQ(third.verdict, SourceVerdict::too_many_sessions);
  EXPECT_FALSE(third.ticket);
  const Admission other = table.admit(numbered(2), 0s, limits(2));
  EXPECT_EQ(other.verdict, SourceVerdict::ok);
  table.leave(first.ticket);
  table.leave(third.ticket);  // empty: nothing
  EXPECT_EQ(sessions_of(table, numbered(1)), 1u);
  EXPECT_EQ(table.admit(numbered(1), 0s, limits(2)).verdict, SourceVerdict::ok);
  EXPECT_EQ(table.admit(numbered(1), 0s, limits(2)).verdict, SourceVerdict::too_many_sessions);
  EXPECT_EQ(table.admit(numbered(1), 0s, limits(0)).verdict, SourceVerdict::ok);
}

TEST(SourceTable, counts_new_sessions_a_second) {
  SourceTable table(1000, kKey);
  const auto come_and_go = [&](const Address& source, std::chrono::milliseconds now) {
    const Admission admission = table.admit(source, now, limits(5, 2));
    table.leave(admission.ticket);
    return admission.verdict;
  };
  EXPECT_EQ(come_and_go(numbered(1), 0ms), SourceVerdict::ok);
  EXPECT_EQ(come_and_go(numbered(1), 0ms), SourceVerdict::ok);
  EXPECT_EQ(come_and_go(numbered(1), 0ms), SourceVerdict::too_fast);
  EXPECT_EQ(come_and_go(numbered(2), 0ms), SourceVerdict::ok);
  EXPECT_EQ(come_and_go(numbered(1), 499ms), SourceVerdict::too_fast);
  EXPECT_EQ(come_and_go(numbered(1), 500ms), SourceVerdict::ok);
  EXPECT_EQ(come_and_go(numbered(1), 500ms), SourceVerdict::too_fast);
}

TEST(SourceTable, one_refused_for_its_sessions_takes_no_token) {
  SourceTable table(1000, kKey);
  const Admission one = table.admit(numbered(1), 0s, limits(1, 2));
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(table.admit(numbered(1), 0s, limits(1, 2)).verdict, SourceVerdict::too_many_sessions);
  table.leave(one.ticket);
  EXPECT_EQ(table.admit(numbered(1), 0s, limits(1, 2)).verdict, SourceVerdict::ok);
}

TEST(SourceTable, log_mode_counts_and_says_what_it_would_have_said) {
  SourceTable table(1000, kKey);
  const SourceLimits log = limits(1, 0, config::LimitMode::log);
  const Admission one = table.admit(numbered(1), 0s, log);
  const Admission two = table.admit(numbered(1), 0s, log);
  EXPECT_EQ(one.verdict, SourceVerdict::ok);
  EXPECT_EQ(two.verdict, SourceVerdict::too_many_sessions);
  EXPECT_TRUE(two.ticket);
  EXPECT_EQ(sessions_of(table, numbered(1)), 2u);
  table.leave(one.ticket);
  table.leave(two.ticket);
  EXPECT_EQ(sessions_of(table, numbered(1)), 0u);
}

TEST(SourceTable, leaving_twice_is_our_own_bug) {
  SourceTable table(1000, kKey);
  const Admission one = table.admit(numbered(1), 0s, limits(1));
  table.leave(one.ticket);
  EXPECT_DEATH(table.leave(one.ticket), "CHECK failed");
}

/// 300,000 sources come and go by a table of 16,000, while a hundred others hold sessions: not one
/// of those is forgotten, entries and memory stay where they were after the first tenth.
TEST(SourceTable, a_flood_leaves_memory_flat_and_sessions_counted) {
  constexpr std::uint32_t kEntries = 16000;
  SourceTable table(kEntries, kKey);
  std::vector<Admission> held;
  for (std::uint32_t i = 0; i < 100; ++i)
    held.push_back(table.admit(numbered(i), 0s, limits(1, 10)));
  std::size_t memory = 0;
  for (std::uint32_t i = 1000; i < 301000; ++i) {
    const Admission passing = table.admit(numbered(i), 1s, limits(1, 10));
    ASSERT_EQ(passing.verdict, SourceVerdict::ok);
    table.leave(passing.ticket);
    ASSERT_LE(table.entries(), kEntries);
    if (i == 31000) memory = mallinfo2().uordblks;
  }
  EXPECT_LE(mallinfo2().uordblks, memory + 4096);
  for (std::uint32_t i = 0; i < 100; ++i) {
    EXPECT_EQ(table.admit(numbered(i), 2s, limits(1, 10)).verdict,
              SourceVerdict::too_many_sessions);
    table.leave(held[i].ticket);
  }
}

/// More sources with sessions than entries: all are kept, and gone down to the bound afterwards.
TEST(SourceTable, holds_every_source_with_sessions_and_shrinks_when_they_leave) {
  SourceTable table(160, kKey);
  std::vector<Admission> held;
  for (std::uint32_t i = 0; i < 5000; ++i) held.push_back(table.admit(numbered(i), 0s, limits(1)));
  EXPECT_EQ(table.entries(), 5000u);
  for (std::uint32_t i = 0; i < 5000; ++i)
    ASSERT_EQ(table.admit(numbered(i), 0s, limits(1)).verdict, SourceVerdict::too_many_sessions);
  for (const Admission& one : held) table.leave(one.ticket);
  EXPECT_EQ(table.entries(), 160u);
  table.set_entries(1600);
  for (std::uint32_t i = 0; i < 5000; ++i) table.leave(table.admit(numbered(i), 0s, {}).ticket);
  EXPECT_EQ(table.entries(), 1600u);
  table.set_entries(32);
  EXPECT_EQ(table.entries(), 32u);
}

TEST(SourceTable, top_names_the_busiest) {
  SourceTable table(1000, kKey);
  for (std::uint32_t i = 0; i < 50; ++i) {
    for (std::uint32_t n = 0; n <= i; ++n)
      static_cast<void>(table.admit(numbered(i), 0s, limits(40)));
  }
  const auto rows = table.top(12);
  ASSERT_EQ(rows.size(), 12u);
  for (std::uint32_t i = 0; i < 10; ++i) {  // 40 sessions each, the most often refused first
    EXPECT_EQ(rows[i].source, numbered(49 - i));
    EXPECT_EQ(rows[i].sessions, 40u);
    EXPECT_EQ(rows[i].refused, 10 - i);
  }
  EXPECT_EQ(rows[10].source, numbered(39));
  EXPECT_EQ(rows[11].sessions, 39u);
  EXPECT_EQ(table.top(1000).size(), 50u);
  EXPECT_TRUE(table.top(0).empty());
}

TEST(SourceTable, does_what_a_plain_map_does) {
  struct Known {
    std::uint32_t sessions = 0;
    std::int64_t full_at = INT64_MIN / 2;
  };
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Random random{seed};
    SourceTable table(100000, kKey + seed);
    std::map<Address, Known> model;
    std::deque<std::pair<Address, SourceTicket>> held;
    std::chrono::milliseconds now{0};
    for (int step = 0; step < 5000; ++step) {
      now += std::chrono::milliseconds(random() % 20);
      if (random() % 3 == 0 && !held.empty()) {
        const std::size_t index = random() % held.size();
        --model[held[index].first].sessions;
        table.leave(held[index].second);
        held.erase(held.begin() + static_cast<std::ptrdiff_t>(index));
        continue;
      }
      const Address source = numbered(static_cast<std::uint32_t>(random() % 40));
      const SourceLimits limit = limits(4, 5);
      Known& known = model[source];
      SourceVerdict expected = SourceVerdict::ok;
      const std::int64_t at = std::chrono::nanoseconds(now).count();
      if (known.sessions >= 4)
        expected = SourceVerdict::too_many_sessions;
      else if (known.full_at - at > 800'000'000)
        expected = SourceVerdict::too_fast;
      const Admission admission = table.admit(source, now, limit);
      ASSERT_EQ(admission.verdict, expected) << "seed " << seed << " step " << step;
      if (expected != SourceVerdict::ok) continue;
      ++known.sessions;
      known.full_at = std::max(known.full_at, at) + 200'000'000;
      held.emplace_back(source, admission.ticket);
    }
    for (const auto& [source, known] : model)
      ASSERT_EQ(sessions_of(table, source), known.sessions) << "seed " << seed;
  }
}

TEST(SourceTableConcurrency, limit_is_never_exceeded_and_every_session_comes_back) {
  constexpr std::uint32_t kWorkers = 4, kSources = 50, kLimit = 3;
  SourceTable table(32, kKey);
  std::vector<std::atomic<std::uint32_t>> holding(kSources);
  std::atomic<unsigned> exceeded{0}, admitted{0};
  std::vector<std::thread> threads;
  for (std::uint32_t w = 0; w < kWorkers; ++w) {
    threads.emplace_back([&, w] {
      Random random{w};
      std::deque<std::pair<std::uint32_t, SourceTicket>> mine;
      for (int round = 0; round < 10000; ++round) {
        const auto source = static_cast<std::uint32_t>(random() % kSources);
        const Admission admission = table.admit(numbered(source), 0s, limits(kLimit));
        if (admission.verdict == SourceVerdict::ok) {
          if (holding[source].fetch_add(1) >= kLimit) ++exceeded;
          ++admitted;
          mine.emplace_back(source, admission.ticket);
        }
        while (mine.size() > 30 || (!mine.empty() && random() % 3 == 0)) {
          --holding[mine.front().first];
          table.leave(mine.front().second);
          mine.pop_front();
        }
      }
      for (const auto& [source, ticket] : mine) {
        --holding[source];
        table.leave(ticket);
      }
    });
  }
  threads.emplace_back([&] {
    for (std::uint32_t round = 0; round < 200; ++round) {
      table.set_entries(16 + round % 5 * 100);
      for (const SourceRow& row : table.top(10))
        if (row.sessions > kLimit) ++exceeded;
    }
  });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(exceeded, 0u);
  EXPECT_GT(admitted, kSources * kLimit);
  for (const SourceRow& row : table.top(1000)) EXPECT_EQ(row.sessions, 0u);
}

}  // namespace
}  // namespace poise::balance::test
