#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "loadgen/loop/time.h"
#include "poise/result.h"

namespace poise::loadgen {

/// How a server misbehaves. Everything off: it doesn't.
struct Faults {
  Nanos delay = 0;  ///< before the greeting
  std::string
      greet;  ///< instead of the greeting; "421" and "554" stand for the protocol's own words
  bool refuse = false;   ///< bound, not listening: connections are refused
  bool reset = false;    ///< RST after accept
  bool close = false;    ///< FIN after accept
  bool silence = false;  ///< accepts, and never says a word
  std::optional<unsigned>
      reset_after_replies;  ///< RST once that many commands were answered (0: after the greeting)
  bool reset_after_quit = false;  ///< RST after the goodbye
  std::uint64_t trickle = 0;      ///< bytes a second, at most, to each client
  std::uint64_t die_after = 0;    ///< the server dies when that many sessions have ended
  Nanos die_at = 0;               ///< the server dies that long after the start
  double capacity = 0;            ///< messages a second that it takes in or hands out
};

/// Adds one `--fault` to what is there: "delay=300", "greet=421", "reset-after-reply", ... The
/// error lists what there is.
Result<void> add_fault(std::string_view text, Faults& faults);

/// One line a fault, for --help.
std::string_view fault_help();

}  // namespace poise::loadgen
