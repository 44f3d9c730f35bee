#include <benchmark/benchmark.h>

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "balance/pool.h"

/// Nanoseconds of one pick and its release, for each scheduler, with 3 and with 1,000 members; the
/// same for a retry (one member tried), for a pool with half of its members full, from two threads
/// at once, and the cost of building a snapshot's tables. The first lines are what every session
/// pays.
namespace poise::balance {
namespace {

using config::Scheduler;

struct Bench {
  std::deque<BackendState> states;
  PoolState state;
  Pool pool;

  Bench(Scheduler scheduler, std::size_t size, std::uint32_t weights, bool half_full)
      : pool(spec(scheduler, size, weights, half_full)) {}

  PoolSpec spec(Scheduler scheduler, std::size_t size, std::uint32_t weights, bool half_full) {
    PoolSpec spec;
    spec.scheduler = scheduler;
    spec.state = &state;
    for (std::uint32_t i = 0; i < size; ++i) {
      Member member;
      member.id.value = i;
      member.address = *Address::from_ip("10.0.0.1", static_cast<std::uint16_t>(i + 1));
      member.weight = 1 + i % weights;
      member.max_sessions = 1000;
      member.state = &states.emplace_back();
      if (half_full && i % 2 == 0) member.state->sessions = 1000;
      spec.members.push_back(member);
    }
    return spec;
  }
};

void pick(benchmark::State& run, Scheduler scheduler, std::size_t size, std::uint32_t weights,
          bool retry, bool half_full) {
  static Bench* shared = nullptr;
  if (run.thread_index() == 0) shared = new Bench(scheduler, size, weights, half_full);
  PickRequest request;
  request.source = *Address::from_ip("192.0.2.1");
  const BackendId tried{1};
  if (retry) request.tried = {&tried, 1};
  std::uint32_t number = static_cast<std::uint32_t>(run.thread_index()) << 20;
  for (auto _ : run) {
    ++number;
    request.source.ip[2] = static_cast<std::uint8_t>(number >> 8);
    request.source.ip[3] = static_cast<std::uint8_t>(number);
    request.random = number * 0x9e3779b97f4a7c15u;
    const Pick chosen = shared->pool.pick(request);
    benchmark::DoNotOptimize(chosen.member);
    chosen.member->state->brakes.settled();
    Pool::release(*chosen.member->state);
  }
  if (run.thread_index() == 0) delete shared;
}

void build(benchmark::State& run, Scheduler scheduler, std::size_t size, std::uint32_t weights) {
  for (auto _ : run) {
    Bench bench(scheduler, size, weights, false);
    benchmark::DoNotOptimize(bench.pool.members().data());
  }
}

void add(const std::string& name, Scheduler scheduler) {
  using benchmark::RegisterBenchmark;
  for (const std::size_t size : {std::size_t{3}, std::size_t{1000}}) {
    const std::string of = name + "/" + std::to_string(size);
    RegisterBenchmark(("pick/" + of).c_str(), pick, scheduler, size, 1u, false, false);
    RegisterBenchmark(("pick_weighted/" + of).c_str(), pick, scheduler, size, 10u, false, false);
    RegisterBenchmark(("pick_retry/" + of).c_str(), pick, scheduler, size, 1u, true, false);
    RegisterBenchmark(("pick_half_full/" + of).c_str(), pick, scheduler, size, 1u, false, true);
    RegisterBenchmark(("pick_2_workers/" + of).c_str(), pick, scheduler, size, 1u, false, false)
        ->Threads(2)
        ->UseRealTime();
    RegisterBenchmark(("build/" + of).c_str(), build, scheduler, size, 1u)
        ->Unit(benchmark::kMicrosecond);
    RegisterBenchmark(("build_weighted/" + of).c_str(), build, scheduler, size, 100u)
        ->Unit(benchmark::kMicrosecond);
  }
}

}  // namespace
}  // namespace poise::balance

int main(int argc, char** argv) {
  using poise::config::Scheduler;
  poise::balance::add("round_robin", Scheduler::round_robin);
  poise::balance::add("least_conn", Scheduler::least_conn);
  poise::balance::add("random_two", Scheduler::random_two);
  poise::balance::add("source_hash", Scheduler::source_hash);
  poise::balance::add("maglev", Scheduler::maglev);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
