#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "balance/pool.h"

/// Makes pools out of tables. Owns the registries that a Pool points to, so it outlives the pools
/// it builds.
namespace poise::balance::test {

inline constexpr std::array kSchedulers{
    config::Scheduler::round_robin, config::Scheduler::least_conn, config::Scheduler::random_two,
    config::Scheduler::source_hash, config::Scheduler::maglev};

inline const char* name(config::Scheduler scheduler) {
  switch (scheduler) {
    case config::Scheduler::round_robin:
      return "round_robin";
    case config::Scheduler::least_conn:
      return "least_conn";
    case config::Scheduler::source_hash:
      return "source_hash";
    case config::Scheduler::maglev:
      return "maglev";
    case config::Scheduler::random_two:
      return "random_two";
  }
  return "?";
}

/// Names the instances of a parameterized test.
inline std::string scheduler_name(const testing::TestParamInfo<config::Scheduler>& parameter) {
  return name(parameter.param);
}

/// 10.x.y.z, one per number.
inline Address numbered(std::uint32_t number, std::uint16_t port = 0) {
  Address address;
  address.family = AF_INET;
  address.port = port;
  address.ip[0] = 10;
  for (std::size_t i = 0; i < 3; ++i)
    address.ip[3 - i] = static_cast<std::uint8_t>(number >> (8 * i));
  return address;
}

/// A pool whose sessions are greeted at once, so that no brake comes on by itself.
class GreetingPool : public Pool {
 public:
  using Pool::Pool;

  [[nodiscard]] Pick pick(const PickRequest& request) const {
    const Pick pick = Pool::pick(request);
    if (pick.result == PickResult::chosen) pick.member->state->brakes.settled();
    return pick;
  }
};

struct PoolBuilder {
  PoolSpec spec;
  PoolState state;
  std::deque<BackendState> states;

  explicit PoolBuilder(config::Scheduler scheduler = config::Scheduler::round_robin,
                       std::vector<std::uint32_t> weights = {}) {
    spec.scheduler = scheduler;
    for (const std::uint32_t weight : weights) add({.weight = weight});
  }

  struct Row {
    std::uint32_t weight = 1;
    std::uint32_t max_sessions = 0;
    std::uint32_t tier = 0;
    bool up = true;
    bool enabled = true;
  };

  Member& add(Row row) {
    const auto number = static_cast<std::uint32_t>(states.size());
    states.emplace_back();
    Member member{.id = BackendId{number}, .address = numbered(0xffff00u - number, 25)};
    member.weight = row.weight;
    member.max_sessions = row.max_sessions;
    member.tier = row.tier;
    member.up = row.up;
    member.enabled = row.enabled;
    member.state = &states.back();
    return spec.members.emplace_back(member);
  }

  [[nodiscard]] GreetingPool build() {
    PoolSpec copy = spec;
    copy.state = &state;
    return GreetingPool(copy);
  }

  std::uint32_t sessions(std::size_t member) { return states[member].sessions; }
};

/// A splitmix64 generator: what a worker would hand to random_two.
struct Random {
  std::uint64_t state = 1;
  std::uint64_t operator()() {
    state += 0x9e3779b97f4a7c15u;
    std::uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
};

/// The `number`-th of many clients, each from its own address.
inline PickRequest client(std::uint32_t number, std::span<const BackendId> tried = {}) {
  Random random{number};
  return {.source = numbered(number), .random = random(), .tried = tried};
}

/// Picks once for each of `clients`, places given back at once; how often each member was chosen.
inline std::vector<unsigned> spread(const GreetingPool& pool, std::uint32_t clients,
                                    std::span<const BackendId> tried = {}) {
  std::vector<unsigned> counts(pool.members().size());
  for (std::uint32_t i = 0; i < clients; ++i) {
    const Pick pick = pool.pick(client(i, tried));
    if (pick.result != PickResult::chosen) continue;
    ++counts[static_cast<std::size_t>(pick.member - pool.members().data())];
    Pool::release(*pick.member->state);
  }
  return counts;
}

/// Sessions of many clients while the members in `dead` fail each session that reaches them: who
/// served in the end. Nobody in `dead` is known to be down.
inline std::vector<unsigned> served(const GreetingPool& pool, std::uint32_t clients,
                                    const std::vector<std::size_t>& dead) {
  std::vector<unsigned> counts(pool.members().size());
  for (std::uint32_t i = 0; i < clients; ++i) {
    std::vector<BackendId> tried;
    while (tried.size() <= counts.size()) {  // one round more than a pool that keeps its word needs
      const Pick pick = pool.pick(client(i, tried));
      if (pick.result != PickResult::chosen) break;
      Pool::release(*pick.member->state);
      const auto index = static_cast<std::size_t>(pick.member - pool.members().data());
      if (std::find(dead.begin(), dead.end(), index) == dead.end()) {
        ++counts[index];
        break;
      }
      tried.push_back(pick.member->id);
    }
  }
  return counts;
}

}  // namespace poise::balance::test
