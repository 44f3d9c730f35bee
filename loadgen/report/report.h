#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <vector>

#include "loadgen/report/tally.h"

namespace poise::loadgen {

/// What a run was, and what came of it.
struct RunResult {
  const Tally& tally;
  std::string title;  ///< the protocol, or the workload's name
  std::string run_id;
  std::string choice;                ///< how targets were chosen
  std::vector<std::string> targets;  ///< as in Tally::by_target
  unsigned clients = 0;              ///< closed loop
  double rate = 0;                   ///< open loop: sessions a second asked for; 0: closed loop
  Nanos elapsed = 0;
  Nanos cpu = 0;                 ///< user and system time that the generator itself used
  std::uint64_t peak = 0;        ///< most connections at a time
  std::uint64_t unfinished = 0;  ///< still open when it was interrupted
  std::uint64_t queued = 0;      ///< deferred, and not tried again before the end
  bool interrupted = false;

  [[nodiscard]] double per_second(std::uint64_t count) const {
    return elapsed > 0 ? static_cast<double>(count) / seconds(elapsed) : 0;
  }
  /// Connections that failed, of those that were tried.
  [[nodiscard]] double connection_error_percent() const;
  /// How much of its one thread the generator used: near 100 it is what was measured.
  [[nodiscard]] double busy_percent() const;
  /// Sessions a second at which its one thread would be busy all the time, at this run's cost of a
  /// session; 0: unknown.
  [[nodiscard]] double ceiling() const;
  [[nodiscard]] bool submits_mail() const;
};

/// The study's two columns first, then the rest.
std::string report_text(const RunResult& result);
nlohmann::json report_json(const RunResult& result);

/// One row a block and command: block,protocol,command,count,rate,errors,p50,... in seconds.
std::string report_csv(const RunResult& result);

/// "0.213 ms", "1.42 s": three significant digits.
std::string duration_text(Nanos span);

/// "1.2 MiB"
std::string bytes_text(std::uint64_t bytes);

/// One line of the live display, as in the LISA '97 study: time, rate, counts, a bar of `*` for
/// what went well and `-` for what failed. `peak`: the most of any interval so far, which fills the
/// bar.
std::string progress_line(std::uint64_t second, const Interval& interval, std::uint64_t ended,
                          std::uint64_t active, std::uint64_t peak);

}  // namespace poise::loadgen
