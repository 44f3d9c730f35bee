#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "balance/network_set.h"
#include "balance/rate.h"
#include "balance/source_table.h"
#include "balance/sticky_table.h"

/// Nanoseconds of what a session asks about its source: is it in a list of so many networks, which
/// backend is its own, has it too many sessions; from one worker and from two at once.
namespace poise::balance {
namespace {

constexpr std::uint64_t kKey = 0x5eed;
constexpr std::uint32_t kSources = 65536;

Address numbered(std::uint64_t number, bool v6) {
  number *= 0x9e3779b97f4a7c15u;
  Address address;
  address.family = v6 ? AF_INET6 : AF_INET;
  for (std::size_t i = 0; i < (v6 ? 8u : 4u); ++i)
    address.ip[i] = static_cast<std::uint8_t>(number >> (56 - 8 * i));
  return address;
}

std::vector<Address> sources(bool v6) {
  std::vector<Address> all;
  for (std::uint32_t i = 0; i < kSources; ++i) all.push_back(numbered(i, v6));
  return all;
}

void network_find(benchmark::State& run, bool v6) {
  std::vector<Network> networks;
  for (std::uint32_t i = 0; i < run.range(0); ++i) {
    const auto prefix = static_cast<std::uint8_t>((v6 ? 32 : 16) + i % 17);
    networks.push_back({masked(numbered(1000000 + i, v6), prefix), prefix});
  }
  const NetworkSet set(networks);
  const std::vector<Address> asked = sources(v6);
  std::uint32_t number = 0;
  for (auto _ : run) benchmark::DoNotOptimize(set.find(asked[number++ % kSources]));
}
BENCHMARK_CAPTURE(network_find, v4, false)->Arg(10)->Arg(1000)->Arg(10000);
BENCHMARK_CAPTURE(network_find, v6, true)->Arg(10)->Arg(1000)->Arg(10000);

void network_build(benchmark::State& run) {
  std::vector<Network> networks;
  for (std::uint32_t i = 0; i < 10000; ++i)
    networks.push_back({masked(numbered(i, i % 2 == 0), 24), 24});
  for (auto _ : run) benchmark::DoNotOptimize(NetworkSet(networks).empty());
}
BENCHMARK(network_build)->Unit(benchmark::kMicrosecond);

void sticky_find(benchmark::State& run) {
  static std::unique_ptr<StickyTable> table;
  const std::vector<Address> asked = sources(false);
  const std::chrono::hours now{1};
  if (run.thread_index() == 0) {
    table = std::make_unique<StickyTable>(
        StickyTable::Options{.entries = 100000, .ttl = std::chrono::hours(12), .backends = 1},
        kKey);
    for (const Address& source : asked)
      static_cast<void>(table->insert_if_absent(source, BackendId{0}, now));
  }
  auto number = static_cast<std::uint32_t>(run.thread_index()) * 977u;
  for (auto _ : run) benchmark::DoNotOptimize(table->find(asked[number++ % kSources], now));
}
BENCHMARK(sticky_find)->ThreadRange(1, 2)->UseRealTime();

/// New sources for ever: each pushes an old one out.
void sticky_insert(benchmark::State& run) {
  StickyTable table({.entries = 100000, .ttl = std::chrono::hours(12), .backends = 1}, kKey);
  std::uint64_t number = 0;
  for (auto _ : run) {
    const Placement placed =
        table.insert_if_absent(numbered(++number, false), BackendId{0}, std::chrono::hours(1));
    benchmark::DoNotOptimize(placed);
  }
}
BENCHMARK(sticky_insert);

void source_admit_and_leave(benchmark::State& run) {
  static std::unique_ptr<SourceTable> table;
  if (run.thread_index() == 0) table = std::make_unique<SourceTable>(100000u, kKey);
  const std::vector<Address> asked = sources(false);
  const SourceLimits limits{.sessions = 10, .rate = Pace(config::Rate{1000})};
  auto number = static_cast<std::uint32_t>(run.thread_index()) * 977u;
  std::chrono::nanoseconds now{0};
  for (auto _ : run) {
    now += std::chrono::microseconds(100);
    const Admission admission = table->admit(asked[number++ % kSources], now, limits);
    table->leave(admission.ticket);
  }
}
BENCHMARK(source_admit_and_leave)->ThreadRange(1, 2)->UseRealTime();

void rate_admit(benchmark::State& run) {
  static RateLimiter limiter;
  const Pace pace(config::Rate{1e6});
  std::chrono::nanoseconds now{0};
  for (auto _ : run) {
    now += std::chrono::microseconds(1);
    benchmark::DoNotOptimize(limiter.admit(pace, now));
  }
}
BENCHMARK(rate_admit)->ThreadRange(1, 2)->UseRealTime();

}  // namespace
}  // namespace poise::balance

BENCHMARK_MAIN();
