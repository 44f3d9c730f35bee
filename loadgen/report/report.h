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
  std::string protocol;
  std::string script;  ///< "session" or "connect"
  std::string run_id;
  std::vector<std::string> targets;
  unsigned clients = 0;  ///< closed loop
  double rate = 0;       ///< open loop: sessions a second asked for; 0: closed loop
  Nanos elapsed = 0;
  Nanos cpu = 0;                 ///< user and system time that the generator itself used
  std::uint64_t unfinished = 0;  ///< still open when it was interrupted
  bool interrupted = false;

  [[nodiscard]] double per_second(std::uint64_t count) const {
    return elapsed > 0 ? static_cast<double>(count) / seconds(elapsed) : 0;
  }
  /// Sessions with a connection error, of those that have ended.
  [[nodiscard]] double connection_error_percent() const;
  /// How much of its one thread the generator used: near 100 it is what was measured.
  [[nodiscard]] double busy_percent() const;
};

/// The study's two columns first, then the rest.
std::string report_text(const RunResult& result);
nlohmann::json report_json(const RunResult& result);

/// "0.213 ms", "1.42 s": three significant digits.
std::string duration_text(Nanos span);

/// One line of the live display, as in the LISA '97 study: time, rate, counts, a bar of `*` for
/// what went well and `-` for what failed. `peak`: the most of any interval so far, which fills the
/// bar.
std::string progress_line(std::uint64_t second, const Interval& interval, std::uint64_t ended,
                          std::uint64_t active, std::uint64_t peak);

}  // namespace poise::loadgen
