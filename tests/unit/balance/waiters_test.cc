#include "balance/waiters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <list>
#include <mutex>
#include <thread>
#include <utility>

#include "pool_builder.h"

/// The queue of a pool: in order, bounded, everybody taken or cancelled exactly once; and, with a
/// real Pool and threads in place of workers, no place left free beside a client that waits.
namespace poise::balance::test {
namespace {

using namespace std::chrono_literals;

constexpr BackendId kA{0}, kB{1};

Waiter client_in(std::uint32_t slot, std::chrono::nanoseconds since = 0s,
                 std::uint64_t avoids = 0) {
  return {.worker = slot % 3, .slot = slot, .generation = 7, .since = since, .avoids = avoids};
}

TEST(Waiters, first_come_first_served) {
  Waiters waiters;
  EXPECT_FALSE(waiters.anyone());
  EXPECT_FALSE(waiters.take_next(kA).has_value());
  for (std::uint32_t i = 0; i < 10; ++i) EXPECT_TRUE(waiters.enqueue(client_in(i), 100));
  EXPECT_EQ(waiters.length(), 10u);
  for (std::uint32_t i = 0; i < 10; ++i) {
    const auto next = waiters.take_next(kA);
    ASSERT_TRUE(next.has_value());
    EXPECT_EQ(next->slot, i);
    EXPECT_EQ(next->worker, i % 3);
    EXPECT_EQ(next->generation, 7u);
  }
  EXPECT_FALSE(waiters.anyone());
}

TEST(Waiters, bounded) {
  Waiters waiters;
  EXPECT_FALSE(waiters.enqueue(client_in(0), 0));
  EXPECT_TRUE(waiters.enqueue(client_in(1), 2));
  EXPECT_TRUE(waiters.enqueue(client_in(2), 2));
  EXPECT_FALSE(waiters.enqueue(client_in(3), 2));
  EXPECT_EQ(waiters.take_next(kA)->slot, 1u);
  EXPECT_TRUE(waiters.enqueue(client_in(4), 2));
  EXPECT_FALSE(waiters.enqueue(client_in(5), 1));  // a reload made it shorter
  EXPECT_EQ(waiters.length(), 2u);
}

TEST(Waiters, cancel_takes_out_whom_it_names_and_nobody_else) {
  Waiters waiters;
  const WaiterTicket one = waiters.enqueue(client_in(1), 9);
  const WaiterTicket two = waiters.enqueue(client_in(2), 9);
  const WaiterTicket three = waiters.enqueue(client_in(3), 9);
  EXPECT_TRUE(waiters.cancel(two));
  EXPECT_FALSE(waiters.cancel(two));
  EXPECT_FALSE(waiters.cancel({}));
  EXPECT_EQ(waiters.take_next(kA)->slot, 1u);
  EXPECT_FALSE(waiters.cancel(one));
  // Two's and one's nodes are used again, under other tickets.
  EXPECT_TRUE(waiters.enqueue(client_in(4), 9));
  EXPECT_TRUE(waiters.enqueue(client_in(5), 9));
  EXPECT_FALSE(waiters.cancel(one));
  EXPECT_FALSE(waiters.cancel(two));
  EXPECT_TRUE(waiters.cancel(three));
  EXPECT_EQ(waiters.take_next(kA)->slot, 4u);
  EXPECT_EQ(waiters.take_next(kA)->slot, 5u);
}

TEST(Waiters, a_place_goes_past_those_that_have_tried_it) {
  Waiters waiters;
  EXPECT_TRUE(waiters.enqueue(client_in(1, 0s, Waiters::avoid(kA)), 9));
  EXPECT_TRUE(waiters.enqueue(client_in(2, 0s, Waiters::avoid(kA) | Waiters::avoid(kB)), 9));
  EXPECT_TRUE(waiters.enqueue(client_in(3), 9));
  EXPECT_EQ(waiters.take_next(kA)->slot, 3u);
  EXPECT_FALSE(waiters.take_next(kA).has_value());
  EXPECT_EQ(waiters.take_next(kB)->slot, 1u);
  EXPECT_EQ(waiters.take_next(BackendId{2})->slot, 2u);
}

TEST(Waiters, says_how_long_the_first_has_waited) {
  Waiters waiters;
  EXPECT_EQ(waiters.longest_wait(5s), 0s);
  EXPECT_TRUE(waiters.enqueue(client_in(1, 10s), 9));
  const WaiterTicket two = waiters.enqueue(client_in(2, 12s), 9);
  EXPECT_EQ(waiters.longest_wait(15s), 5s);
  EXPECT_EQ(waiters.longest_wait(9s), 0s);
  EXPECT_TRUE(waiters.take_next(kA).has_value());
  EXPECT_EQ(waiters.longest_wait(15s), 3s);
  EXPECT_TRUE(waiters.cancel(two));
  EXPECT_EQ(waiters.longest_wait(15s), 0s);
}

TEST(Waiters, does_what_a_plain_list_does) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    Random random{seed};
    Waiters waiters;
    std::list<std::pair<Waiter, WaiterTicket>> model;
    std::vector<WaiterTicket> gone;
    for (std::uint32_t step = 0; step < 2000; ++step) {
      const BackendId backend{static_cast<std::uint32_t>(random() % 4)};
      switch (random() % 4) {
        case 0:
        case 1: {
          const Waiter waiter = client_in(step, 0s, random() % 3 == 0 ? random() % 16 : 0);
          const WaiterTicket ticket = waiters.enqueue(waiter, 20);
          ASSERT_EQ(bool(ticket), model.size() < 20) << "seed " << seed;
          if (ticket) model.emplace_back(waiter, ticket);
          break;
        }
        case 2: {
          const auto expected = std::find_if(model.begin(), model.end(), [&](const auto& one) {
            return (one.first.avoids & Waiters::avoid(backend)) == 0;
          });
          const auto next = waiters.take_next(backend);
          ASSERT_EQ(next.has_value(), expected != model.end()) << "seed " << seed;
          if (!next) break;
          ASSERT_EQ(next->slot, expected->first.slot) << "seed " << seed;
          gone.push_back(expected->second);
          model.erase(expected);
          break;
        }
        default:
          if (!gone.empty()) {
            ASSERT_FALSE(waiters.cancel(gone[random() % gone.size()]));
          }
          if (model.empty()) break;
          auto chosen =
              std::next(model.begin(), static_cast<std::ptrdiff_t>(random() % model.size()));
          ASSERT_TRUE(waiters.cancel(chosen->second)) << "seed " << seed;
          gone.push_back(chosen->second);
          model.erase(chosen);
      }
      ASSERT_EQ(waiters.length(), model.size());
    }
  }
}

/// serve() with a single place, `free` while nobody has it, as other workers would see it in
/// between.
struct OnePlace {
  Waiters waiters;
  bool free = true;
  std::vector<std::uint32_t> handed;
  std::function<void()> before_release = [] {};

  std::optional<BackendId> pick() {
    return std::exchange(free, false) ? std::optional(kA) : std::nullopt;
  }
  void serve() {
    waiters.serve([&] { return pick(); },
                  [&](const Waiter& waiter, BackendId) { handed.push_back(waiter.slot); },
                  [&](BackendId) {
                    before_release();
                    free = true;
                  });
  }
};

TEST(Waiters, serve_hands_a_place_that_came_back_before_the_client_had_joined) {
  OnePlace one;
  ASSERT_TRUE(one.pick());
  ASSERT_FALSE(one.pick());  // a client finds it full
  one.free = true;           // given back, and nobody seen waiting
  one.serve();
  EXPECT_TRUE(one.free);
  EXPECT_TRUE(one.waiters.enqueue(client_in(1), 9));
  one.serve();
  EXPECT_EQ(one.handed, std::vector<std::uint32_t>{1});
  EXPECT_FALSE(one.free);
}

/// The place is in serve()'s hands for a moment, because the only one who waits has tried it; a
/// newcomer finds the pool full in that moment.
TEST(Waiters, serve_looks_again_when_somebody_joined_meanwhile) {
  OnePlace one;
  EXPECT_TRUE(one.waiters.enqueue(client_in(1, 0s, Waiters::avoid(kA)), 9));
  unsigned releases = 0;
  one.before_release = [&] {
    if (++releases > 1) return;
    EXPECT_TRUE(one.waiters.enqueue(client_in(2), 9));
    EXPECT_FALSE(one.pick());
  };
  one.serve();
  EXPECT_EQ(one.handed, std::vector<std::uint32_t>{2});
  EXPECT_EQ(one.waiters.length(), 1u);
}

TEST(Waiters, serve_ends_when_nobody_can_use_what_is_free) {
  OnePlace one;
  EXPECT_TRUE(one.waiters.enqueue(client_in(1, 0s, Waiters::avoid(kA)), 9));
  one.serve();
  EXPECT_TRUE(one.handed.empty());
  EXPECT_TRUE(one.free);
}

/// Threads as workers follow the header's rules with a pool of three places: each has sessions that
/// come, wait, are served, give up, and end.
struct Floor {
  static constexpr std::uint32_t kSlots = 8, kWorkers = 4;

  PoolBuilder builder;
  GreetingPool pool;
  Waiters waiters;
  std::atomic<std::uint32_t> in_use{0};
  std::atomic<std::uint32_t> exceeded{0}, served{0}, gave_up{0};

  /// A worker's mailbox: places for waiting sessions.
  struct Mailbox {
    std::mutex mutex;
    std::vector<std::pair<Waiter, BackendId>> woken;
  };
  std::array<Mailbox, kWorkers> mailboxes;

  Floor() : pool(limited(builder)) {}

  static GreetingPool limited(PoolBuilder& builder) {
    builder.add({.max_sessions = 1});
    builder.add({.max_sessions = 2});
    return builder.build();
  }

  void serve_the_queue() {
    waiters.serve(
        [&]() -> std::optional<BackendId> {
          const Pick pick = pool.pick(client(1));
          if (pick.result != PickResult::chosen) return std::nullopt;
          return pick.member->id;
        },
        [&](Waiter waiter, BackendId backend) {
          Mailbox& mailbox = mailboxes[waiter.worker];
          const std::lock_guard lock(mailbox.mutex);
          mailbox.woken.emplace_back(waiter, backend);
        },
        [&](BackendId backend) { Pool::release(builder.states[backend.value]); });
  }

  void give_back(BackendId backend) {
    Pool::release(builder.states[backend.value]);
    serve_the_queue();
  }
};

/// One day: until so many were served; returns how many gave up.
std::uint32_t a_day(std::uint64_t seed, std::chrono::steady_clock::time_point deadline) {
  constexpr std::uint32_t kServed = 200;
  Floor floor;
  std::vector<std::thread> workers;
  std::atomic<bool> stuck{false};
  std::atomic<std::uint32_t> busy{Floor::kWorkers};
  for (std::uint32_t w = 0; w < Floor::kWorkers; ++w) {
    workers.emplace_back([&, w] {
      struct Slot {
        std::uint32_t generation = 0;
        WaiterTicket ticket;
        BackendId place{};  ///< none: it has no session
      };
      std::array<Slot, Floor::kSlots> slots;
      Random random{seed * Floor::kWorkers + w};
      const auto serve = [&](Slot& slot, BackendId backend) {
        if (floor.in_use.fetch_add(1) >= 3) ++floor.exceeded;
        slot.place = backend;
        ++floor.served;
      };
      const auto finish = [&](Slot& slot) {
        floor.in_use.fetch_sub(1);
        const BackendId backend = slot.place;
        slot.place = {};
        ++slot.generation;
        floor.give_back(backend);
      };
      const auto read_mailbox = [&] {
        std::vector<std::pair<Waiter, BackendId>> woken;
        {
          const std::lock_guard lock(floor.mailboxes[w].mutex);
          woken.swap(floor.mailboxes[w].woken);
        }
        for (const auto& [one, backend] : woken) {
          Slot& slot = slots[one.slot];
          if (slot.generation != one.generation || !slot.ticket) {
            floor.give_back(backend);
            continue;
          }
          slot.ticket = {};
          serve(slot, backend);
        }
      };
      for (std::uint32_t round = 0; floor.served < kServed; ++round) {
        if (std::chrono::steady_clock::now() > deadline) break;
        read_mailbox();
        const auto index = static_cast<std::uint32_t>(random() % Floor::kSlots);
        Slot& slot = slots[index];
        if (slot.place) {
          finish(slot);
        } else if (slot.ticket) {
          if (random() % 4 != 0) {
            std::this_thread::yield();
            continue;
          }
          floor.waiters.cancel(slot.ticket);  // false: what is on its way to it goes back
          slot.ticket = {};
          ++slot.generation;
          ++floor.gave_up;
        } else {
          const bool queue = floor.waiters.anyone();
          const Pick pick = queue ? Pick{} : floor.pool.pick(client(round));
          if (pick.result == PickResult::chosen) {
            serve(slot, pick.member->id);
            continue;
          }
          slot.ticket = floor.waiters.enqueue(
              {.worker = w, .slot = index, .generation = slot.generation}, 1000);
          floor.serve_the_queue();
        }
      }
      // No one comes any more, and no one gives up: all that wait must be served. Who is done
      // goes on reading: what is on its way to who gave up must go back.
      bool counted = false;
      while (busy > 0) {
        read_mailbox();
        for (Slot& slot : slots)
          if (slot.place) finish(slot);
        const bool done =
            std::none_of(slots.begin(), slots.end(), [](const Slot& slot) { return slot.ticket; });
        if (done && !counted) --busy;
        counted = counted || done;
        if (std::chrono::steady_clock::now() > deadline) {
          stuck = true;
          return;
        }
        std::this_thread::yield();
      }
      read_mailbox();
    });
  }
  for (std::thread& worker : workers) worker.join();
  EXPECT_FALSE(stuck);
  EXPECT_EQ(floor.exceeded, 0u);
  EXPECT_GE(floor.served, kServed);
  EXPECT_EQ(floor.waiters.length(), 0u);
  EXPECT_EQ(floor.builder.sessions(0) + floor.builder.sessions(1), 0u);
  return floor.gave_up;
}

/// Days are short because a wake-up that is lost shows at the end, when no later one makes up for
/// it.
TEST(WaitersConcurrency, no_place_stays_free_beside_a_client_that_waits) {
  const auto deadline = std::chrono::steady_clock::now() + 120s;
  std::uint32_t gave_up = 0;
  for (std::uint64_t seed = 1; seed <= 25 && !HasFailure(); ++seed)
    gave_up += a_day(seed, deadline);
  EXPECT_GT(gave_up, 25u);
}

/// One thread joins, in order; others take. Each taker sees the clients in the order they came.
TEST(WaitersConcurrency, order_holds_over_all_takers) {
  constexpr std::uint32_t kClients = 20000;
  Waiters waiters;
  std::atomic<std::uint32_t> taken{0};
  std::atomic<unsigned> disorder{0};
  std::vector<std::thread> takers;
  for (int t = 0; t < 3; ++t) {
    takers.emplace_back([&] {
      std::uint32_t last = 0;
      while (taken < kClients) {
        const auto next = waiters.take_next(kA);
        if (!next) {
          std::this_thread::yield();
          continue;
        }
        ++taken;
        if (next->slot <= last) ++disorder;
        last = next->slot;
      }
    });
  }
  for (std::uint32_t i = 1; i <= kClients; ++i) {
    while (!waiters.enqueue(client_in(i), 50)) std::this_thread::yield();
  }
  for (std::thread& taker : takers) taker.join();
  EXPECT_EQ(taken, kClients);
  EXPECT_EQ(disorder, 0u);
}

}  // namespace
}  // namespace poise::balance::test
