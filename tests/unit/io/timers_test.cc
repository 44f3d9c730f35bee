#include "io/timers.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace poise::io {
namespace {

using Tick = TimerWheel::Tick;

std::vector<std::uint32_t> due_at(TimerWheel& wheel, Tick now) {
  std::vector<std::uint32_t> due;
  wheel.expire(now, [&](std::uint32_t slot) { due.push_back(slot); });
  return due;
}

// A near deadline comes up exactly, once.
TEST(TimerWheel, near_deadline_is_exact) {
  TimerWheel wheel(4);
  wheel.set(1, 10);
  EXPECT_EQ(wheel.next(), 10u);
  EXPECT_TRUE(due_at(wheel, 9).empty());
  EXPECT_EQ(due_at(wheel, 10), std::vector<std::uint32_t>{1});
  EXPECT_TRUE(due_at(wheel, 1000).empty());
  EXPECT_EQ(wheel.next(), TimerWheel::kNever);
}

// Set again, the earlier setting is forgotten; removed, it never comes up.
TEST(TimerWheel, a_slot_has_one_deadline) {
  TimerWheel wheel(4);
  wheel.set(0, 5);
  wheel.set(0, 20);
  wheel.set(2, 6);
  wheel.remove(2);
  EXPECT_TRUE(due_at(wheel, 19).empty());
  EXPECT_EQ(due_at(wheel, 20), std::vector<std::uint32_t>{0});
}

// What is past comes up at the next turn, also when it was set from within a callback.
TEST(TimerWheel, a_past_deadline_comes_up_next) {
  TimerWheel wheel(2);
  EXPECT_TRUE(due_at(wheel, 100).empty());
  wheel.set(0, 3);
  int calls = 0;
  wheel.expire(101, [&](std::uint32_t slot) {
    ++calls;
    wheel.set(slot, 50);
  });
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(due_at(wheel, 102), std::vector<std::uint32_t>{0});
}

// An owner who sets the slot again when it comes up early is never late, however the clock moves;
// and a far deadline costs few visits. Thousands of random deadlines against a model.
TEST(TimerWheel, early_but_never_late) {
  std::mt19937_64 random(7);
  TimerWheel wheel(200);
  std::map<std::uint32_t, Tick> deadlines;
  std::map<std::uint32_t, int> visits;
  Tick now = 0;
  for (int round = 0; round < 20'000; ++round) {
    const auto slot = static_cast<std::uint32_t>(random() % 200);
    switch (random() % 4) {
      case 0:
      case 1: {
        const unsigned magnitude = static_cast<unsigned>(random() % 22);
        const Tick deadline =
            now + 1 + static_cast<Tick>(random() % (std::uint64_t{1} << magnitude));
        wheel.set(slot, deadline);
        deadlines[slot] = deadline;
        visits[slot] = 0;
        break;
      }
      case 2:
        wheel.remove(slot);
        deadlines.erase(slot);
        break;
      default: {
        // As the worker does: sleep until the wheel asks, or a little, or far too long.
        const Tick next = wheel.next();
        if (!deadlines.empty()) {
          Tick earliest = UINT32_MAX;
          for (const auto& [each, deadline] : deadlines) earliest = std::min(earliest, deadline);
          ASSERT_LE(next, std::max(earliest, now + 1)) << "the worker would sleep past a deadline";
        }
        now = random() % 3 == 0 && next != TimerWheel::kNever
                  ? next
                  : now + static_cast<Tick>(random() % 500);
        wheel.expire(now, [&](std::uint32_t due) {
          ASSERT_TRUE(deadlines.count(due)) << "a removed slot came up";
          ++visits[due];
          ASSERT_LE(visits[due], 25) << "a deadline costs too many visits";
          if (now < deadlines[due])
            wheel.set(due, deadlines[due]);
          else
            deadlines.erase(due);
        });
        for (const auto& [each, deadline] : deadlines)
          ASSERT_GT(deadline, now) << "slot " << each << " is late";
      }
    }
  }
}

}  // namespace
}  // namespace poise::io
