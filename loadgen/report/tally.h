#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "loadgen/loop/time.h"
#include "loadgen/report/failure.h"
#include "loadgen/report/histogram.h"

namespace poise::loadgen {

/// One second of a run.
struct Interval {
  std::uint64_t ok = 0;
  std::uint64_t failed = 0;
  std::uint64_t submits = 0;
};

/// All that is counted while a run goes on. Bounded: the tables keyed by what servers say stop
/// growing and gather the rest under "other".
struct Tally {
  static constexpr std::size_t kMaxNames = 64;
  static constexpr std::size_t kMaxIntervals = 100'000;  ///< more than a day

  std::uint64_t started = 0;
  std::uint64_t ok = 0;
  std::uint64_t failed = 0;
  std::uint64_t submits = 0;  ///< messages accepted: their 250 after the final dot has come
  std::uint64_t fetches = 0;  ///< messages fetched whole
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::array<std::uint64_t, kFailureNames.size()> failures{};
  std::map<std::string, std::uint64_t, std::less<>> codes;  ///< refusing replies, by code
  std::map<std::string, std::uint64_t, std::less<>>
      by_server;                         ///< good greetings, by the name in them
  std::vector<std::uint64_t> by_target;  ///< sessions started, in the order of the targets
  Histogram connect;
  Histogram greeting;
  Histogram session;
  std::vector<Interval> intervals;

  [[nodiscard]] std::uint64_t connection_errors() const {
    std::uint64_t sum = 0;
    for (std::size_t at = 0; at < failures.size(); ++at) {
      if (is_connection_error(static_cast<Failure>(at))) sum += failures[at];
    }
    return sum;
  }

  static void count_name(std::map<std::string, std::uint64_t, std::less<>>& table,
                         std::string_view name) {
    auto found = table.find(name);
    if (found == table.end()) {
      found = table.emplace(table.size() < kMaxNames ? std::string(name.substr(0, 80)) : "other", 0)
                  .first;
    }
    ++found->second;
  }
};

}  // namespace poise::loadgen
