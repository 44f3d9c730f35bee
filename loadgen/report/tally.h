#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "loadgen/loop/time.h"
#include "loadgen/report/command.h"
#include "loadgen/report/failure.h"
#include "loadgen/report/histogram.h"
#include "poise/protocol.h"

namespace poise::loadgen {

/// One second of a run.
struct Interval {
  std::uint64_t ok = 0;
  std::uint64_t failed = 0;
  std::uint64_t submits = 0;
  std::uint64_t connection_errors = 0;
  Nanos p50 = 0;  ///< of the sessions that ended well in it
  Nanos p99 = 0;
};

using FailureCounts = std::array<std::uint64_t, kFailureNames.size()>;

/// One command of one block.
struct CommandTally {
  Histogram answered;        ///< asked and answered as it should be
  FailureCounts failures{};  ///< asked, and this came of it
};

/// What the sessions of one block of the workload (or all, when there are none) came to.
struct BlockTally {
  std::string name;
  Protocol protocol = Protocol::smtp;
  std::uint64_t started = 0;
  std::uint64_t ok = 0;
  std::uint64_t failed = 0;
  std::uint64_t submits = 0;
  std::uint64_t fetches = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  Histogram session;
  std::array<CommandTally, kCommandNames.size()> commands;

  [[nodiscard]] CommandTally& of(Command command) {
    return commands[static_cast<std::size_t>(command)];
  }
  [[nodiscard]] const CommandTally& of(Command command) const {
    return commands[static_cast<std::size_t>(command)];
  }
};

/// What became of the connections to one target.
struct TargetTally {
  std::uint64_t attempts = 0;
  std::uint64_t connection_errors = 0;
  std::uint64_t submits = 0;
};

/// A session that took long: what to look for in the server's log.
struct Straggler {
  Nanos took = 0;
  Nanos began = 0;  ///< since the start of the run
  std::uint64_t number = 0;
  std::uint32_t target = 0;
  unsigned attempts = 0;
  Failure failure = Failure::none;
};

/// All that is counted while a run goes on. Bounded: the tables keyed by what servers say stop
/// growing and gather the rest under "other".
///
/// A *session* is what a client wants done; it may take several *attempts* (connections): the next
/// host, or the same ones again later. Without retries and fallback there is one attempt a session.
struct Tally {
  static constexpr std::size_t kMaxNames = 64;
  static constexpr std::size_t kMaxIntervals = 100'000;  ///< more than a day
  static constexpr std::size_t kStragglers = 10;

  std::uint64_t started = 0;
  std::uint64_t ok = 0;
  std::uint64_t failed = 0;       ///< given up
  std::uint64_t attempts = 0;     ///< connections begun
  std::uint64_t fallbacks = 0;    ///< attempts at the next host, right after a failed one
  std::uint64_t deferrals = 0;    ///< no host took it: kept for later
  std::uint64_t deferred_ok = 0;  ///< sessions that went well after at least one deferral
  std::uint64_t submits = 0;      ///< messages accepted: their 250 after the final dot has come
  std::uint64_t fetches = 0;      ///< messages fetched whole
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  FailureCounts failures{};                                 ///< of attempts
  std::map<std::string, std::uint64_t, std::less<>> codes;  ///< refusing replies, by code
  std::map<std::string, std::uint64_t, std::less<>>
      by_server;  ///< good greetings, by the name in them
  std::map<std::string, std::uint64_t, std::less<>> tls_errors;  ///< by what OpenSSL says
  std::vector<TargetTally> by_target;
  std::vector<BlockTally> blocks;
  Histogram connect;
  Histogram greeting;
  Histogram session;
  Histogram delay;  ///< sessions that were deferred: from their beginning to their good end
  std::vector<Interval> intervals;
  std::vector<Straggler> stragglers;  ///< the slowest ones, a heap with the least of them in front

  [[nodiscard]] std::uint64_t connection_errors() const {
    std::uint64_t sum = 0;
    for (std::size_t at = 0; at < failures.size(); ++at) {
      if (is_connection_error(static_cast<Failure>(at))) sum += failures[at];
    }
    return sum;
  }

  void note_straggler(const Straggler& straggler);

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
