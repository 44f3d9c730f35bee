#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>

#include "harness.h"

namespace poise::sim {
namespace {

/// Seeds for one test: POISE_SIM_SEEDS of them, from POISE_SIM_FIRST on.
std::uint64_t from_environment(const char* name, std::uint64_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

/// How many seeds ran.
std::uint64_t run_seeds(Scenario scenario, std::uint64_t count) {
  const std::uint64_t first = from_environment("POISE_SIM_FIRST", 1);
  const std::uint64_t seeds = from_environment("POISE_SIM_SEEDS", count);
  const auto began = std::chrono::steady_clock::now();
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    scenario.seed = seed;
    try {
      run(scenario);
    } catch (const Violation& violation) {
      fmt::print("{}\n", violation.what());
      ADD_FAILURE() << violation.what();
      return seed - first;
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  fmt::print("{} seeds, {:.0f} a second\n", seeds, static_cast<double>(seeds) / took.count());
  return seeds;
}

// Shows that one session at a time keeps every invariant whatever the order of completions: the
// same session, worker and pool as in the daemon, over a kernel that does the least it promises.
TEST(Session, keeps_its_invariants_alone) {
  run_seeds({.clients = 1, .backends = 2}, 20'000);
}

// Several sessions share buffers, blocks, pipes and places.
TEST(Session, keeps_its_invariants_in_company) {
  run_seeds({.clients = 5, .backends = 3}, 6'000);
}

// Backends that greet well, late, badly or not at all: the client hears one of them or us, and its
// bytes reach one of them.
TEST(Gate, keeps_its_invariants_alone) {
  run_seeds({.clients = 1, .backends = 3, .gate = true}, 20'000);
}

TEST(Gate, keeps_its_invariants_in_company) {
  run_seeds({.clients = 5, .backends = 3, .gate = true}, 6'000);
}

TEST(Gate, ends_cleanly_when_stopped_midway) {
  run_seeds({.clients = 4, .stop_midway = true, .gate = true}, 6'000);
}

TEST(Gate, sheds_load_when_everything_is_scarce) {
  run_seeds({.clients = 6, .backends = 2, .stalled_readers = true, .scarce = true, .gate = true},
            6'000);
}

// The worker is told to stop at once while sessions are in any state.
TEST(Session, ends_cleanly_when_stopped_midway) {
  run_seeds({.clients = 4, .stop_midway = true}, 6'000);
}

// Peers that stop reading for good: their sessions end by timeout, others are not kept waiting.
TEST(Session, survives_readers_that_stall) {
  run_seeds({.clients = 4, .stalled_readers = true}, 6'000);
}

// Two buffers, four sockets, two blocks, no pipes: sessions are shed, nothing leaks, and the worker
// goes on.
TEST(Session, sheds_load_when_everything_is_scarce) {
  run_seeds({.clients = 6, .backends = 2, .stalled_readers = true, .scarce = true}, 6'000);
}

// RFC 2177 has a client repeat IDLE at least every 29 minutes; one that takes 31 is not cut either.
TEST(Session, lets_a_client_idle_for_half_an_hour) {
  const std::uint64_t complete = reached().complete;
  const std::uint64_t seeds = run_seeds(
      {.clients = 1, .backends = 1, .failing_connects = false, .idle = std::chrono::minutes(31)},
      500);
  EXPECT_EQ(reached().complete, complete + seeds);
}

// And one that is silent for longer than the profile allows is.
TEST(Session, ends_a_client_that_idles_for_longer) {
  const std::uint64_t& ends =
      reached().by_reason[static_cast<std::size_t>(CloseReason::idle_timeout)];
  const std::uint64_t before = ends;
  const std::uint64_t seeds = run_seeds(
      {.clients = 1, .backends = 1, .failing_connects = false, .idle = std::chrono::minutes(36)},
      100);
  EXPECT_EQ(ends, before + seeds);
}

// The simulation is worth something only as far as it gets: each kind of end and each mechanism
// must have been reached.
TEST(Simulation, reaches_every_mechanism) {
  run_seeds({.clients = 3, .backends = 3, .stalled_readers = true}, 3'000);
  run_seeds({.clients = 6, .backends = 2, .scarce = true}, 1'000);
  run_seeds({.clients = 3, .stop_midway = true}, 500);
  run_seeds({.clients = 1, .gate = true}, 3'000);
  run_seeds({.clients = 5, .backends = 2, .gate = true}, 1'000);
  const Reached& so_far = reached();
  EXPECT_GT(so_far.passed_on, 10u);
  EXPECT_GT(so_far.replayed, 10u);
  EXPECT_GT(so_far.refusals_read, 100u);
  EXPECT_GT(so_far.early, 100u);
  EXPECT_GT(so_far.handed_over, 100u);
  EXPECT_GT(so_far.complete, 100u);
  EXPECT_GT(so_far.replies_before_reset, 100u);
  EXPECT_GT(so_far.retried, 100u);
  EXPECT_GT(so_far.bulk, 100u);
  EXPECT_GT(so_far.refused, 100u);
  EXPECT_GT(so_far.shed, 10u);
  for (const CloseReason reason :
       {CloseReason::client_closed, CloseReason::backend_closed, CloseReason::client_reset,
        CloseReason::backend_reset, CloseReason::idle_timeout, CloseReason::owed_timeout,
        CloseReason::half_closed_timeout, CloseReason::client_gone, CloseReason::refused,
        CloseReason::shutdown, CloseReason::resources})
    EXPECT_GT(so_far.by_reason[static_cast<std::size_t>(reason)], 0u) << name_of(reason);
}

}  // namespace
}  // namespace poise::sim
