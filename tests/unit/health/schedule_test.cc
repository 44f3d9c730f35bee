#include "health/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

namespace poise::health {
namespace {

using namespace std::chrono_literals;

constexpr Schedule::Intervals kIntervals{.steady = 10s, .in_doubt = 2s, .down = 30s};
const Time kStart{100h};

Schedule steady(std::uint64_t seed, Time now = kStart) {
  Schedule schedule(kIntervals, seed, now);
  schedule.started(now);
  schedule.concluded(Pace::steady, now);
  return schedule;
}

TEST(schedule, the_first_probe_is_due_at_once_and_the_next_within_an_interval_and_a_half) {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    EXPECT_EQ(Schedule(kIntervals, seed, kStart).due(), kStart);
    const Time due = steady(seed).due();
    EXPECT_GE(due, kStart + 5s);
    EXPECT_LE(due, kStart + 16s);
  }
}

TEST(schedule, probes_that_start_late_do_not_drift) {
  // A day in which each probe starts 3 ms late and takes 70 ms: as many as there are intervals.
  Schedule schedule = steady(7);
  int probes = 0;
  while (schedule.due() < kStart + 24h) {
    const Time now = schedule.due() + 3ms;
    schedule.started(now);
    schedule.concluded(Pace::steady, now + 70ms);
    ++probes;
  }
  EXPECT_NEAR(probes, 8640, 1);
}

TEST(schedule, neighbours_are_spread_over_the_interval) {
  std::array<int, 10> slots{};
  for (int i = 0; i < 1000; ++i) {
    Schedule schedule = steady(spread_seed("node", "pool", "mx" + std::to_string(i), 0));
    schedule.started(schedule.due());
    const auto at = schedule.due().time_since_epoch() % 10s;
    ++slots[static_cast<std::size_t>(at / 1s)];
  }
  for (const int slot : slots) EXPECT_NEAR(slot, 100, 40);
}

TEST(schedule, two_machines_never_stay_in_step) {
  // Whatever their phases, even when equal by chance: the moments of two nodes coincide only now
  // and then.
  for (int backend = 0; backend < 50; ++backend) {
    const std::string name = "mx" + std::to_string(backend);
    Schedule a = steady(spread_seed("lb1", "mx", name, 0));
    Schedule b = steady(spread_seed("lb2", "mx", name, 0));
    int together = 0;
    for (int i = 0; i < 500; ++i) {
      if (std::chrono::abs(a.due() - b.due()) < 20ms) ++together;
      a.started(a.due());
      b.started(b.due());
    }
    EXPECT_LT(together, 50) << name;
  }
}

TEST(schedule, in_doubt_the_next_one_comes_soon_and_counts_from_the_start) {
  Schedule schedule = steady(1);
  const Time start = schedule.due();
  schedule.started(start);
  schedule.concluded(Pace::in_doubt, start + 1500ms);
  EXPECT_EQ(schedule.due(), start + 2s);
  schedule.started(start + 2s);
  schedule.concluded(Pace::in_doubt, start + 12s);  // ran into its timeout
  EXPECT_EQ(schedule.due(), start + 12s);
}

TEST(schedule, down_is_slower) {
  Schedule schedule = steady(1);
  const Time start = schedule.due();
  schedule.started(start);
  schedule.concluded(Pace::down, start + 1ms);
  EXPECT_GE(schedule.due(), start + 15s);
  EXPECT_LE(schedule.due(), start + 48s);
}

TEST(schedule, soon_is_rate_limited_and_never_delays) {
  Schedule schedule = steady(1);
  const Time due = schedule.due();
  schedule.soon(kStart + 500ms);
  EXPECT_EQ(schedule.due(), kStart + 2s);
  schedule.started(kStart + 2s);
  schedule.concluded(Pace::steady, kStart + 2s);
  for (int i = 0; i < 100; ++i) schedule.soon(kStart + 2s + i * 1ms);
  EXPECT_EQ(schedule.due(), kStart + 4s);
  Schedule late = steady(1);
  late.soon(due + 1h);
  EXPECT_EQ(late.due(), due);
}

TEST(in_flight, caps_all_one_host_and_the_dead) {
  InFlight places({.all = 10, .down = 4, .host = 3});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(places.begin("a", false));
  EXPECT_FALSE(places.begin("a", false));
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(places.begin("dead" + std::to_string(i), true));
  EXPECT_FALSE(places.begin("dead9", true)) << "the dead leave places for the living";
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(places.begin("b", false));
  EXPECT_TRUE(places.full());
  EXPECT_FALSE(places.begin("c", false));
  places.end("dead0", true);
  EXPECT_TRUE(places.begin("dead9", true));
  places.end("a", false);
  EXPECT_TRUE(places.begin("a", false));
  EXPECT_EQ(places.all(), 10u);
}

}  // namespace
}  // namespace poise::health
