#include "loadgen/server/faults.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

namespace poise::loadgen {
namespace {

std::optional<double> parse_amount(std::string_view text) {
  if (text.ends_with("/s")) text.remove_suffix(2);
  const std::string copy(text);
  char* end = nullptr;
  const double value = std::strtod(copy.c_str(), &end);
  if (copy.empty() || *end != '\0' || !std::isfinite(value) || value < 0 || value > 1e12)
    return std::nullopt;
  return value;
}

}  // namespace

std::string_view fault_help() {
  return "delay=MS              wait before the greeting\n"
         "greet=421|554|TEXT    greet with a refusal, or with TEXT\n"
         "refuse                refuse connections\n"
         "reset                 reset after accept\n"
         "close                 close after accept\n"
         "silence               accept, never speak\n"
         "reset-after-reply[=N] reset after N answers (1; 0: after the greeting)\n"
         "reset-after-quit      reset after the goodbye\n"
         "trickle=BYTES         at most so many bytes a second to a client\n"
         "die-after=N           die when N sessions have ended\n"
         "die-at=SECONDS        die that long after the start\n"
         "capacity=R            take in, or hand out, at most R messages a second\n"
         "With several servers NAME:FAULT gives it to one of them.";
}

Result<void> add_fault(std::string_view text, Faults& faults) {
  const std::size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  const bool has_value = equals != std::string_view::npos;
  const std::string_view value = has_value ? text.substr(equals + 1) : std::string_view{};
  const auto wrong = [&](std::string_view what) {
    return Error{fmt::format("--fault {}", text), std::string(what)};
  };
  const std::optional<double> amount = parse_amount(value);

  if (name == "refuse" || name == "reset" || name == "close" || name == "silence" ||
      name == "reset-after-quit") {
    if (has_value) return wrong("takes no value");
    if (name == "refuse") faults.refuse = true;
    if (name == "reset") faults.reset = true;
    if (name == "close") faults.close = true;
    if (name == "silence") faults.silence = true;
    if (name == "reset-after-quit") faults.reset_after_quit = true;
    return {};
  }
  if (name == "greet") {
    if (value.empty()) return wrong("greet with what? 421, 554 or a text");
    if (value.find_first_of("\r\n") != std::string_view::npos)
      return wrong("a greeting is one line");
    faults.greet = value;
    return {};
  }
  if (name == "reset-after-reply") {
    if (has_value && !amount) return wrong("N is a number");
    faults.reset_after_replies = has_value ? static_cast<unsigned>(std::min(*amount, 1e9)) : 1;
    return {};
  }
  if (name == "delay" || name == "trickle" || name == "die-after" || name == "die-at" ||
      name == "capacity") {
    if (!amount || (*amount <= 0)) return wrong(fmt::format("write {}=NUMBER, above 0", name));
    if (name == "delay") faults.delay = nanos(std::min(*amount, 1e9) / 1000);
    if (name == "trickle") faults.trickle = static_cast<std::uint64_t>(std::max(*amount, 1.0));
    if (name == "die-after") faults.die_after = static_cast<std::uint64_t>(std::max(*amount, 1.0));
    if (name == "die-at") faults.die_at = nanos(std::min(*amount, 1e9));
    if (name == "capacity") faults.capacity = *amount;
    return {};
  }
  return wrong(fmt::format("no such fault. There are:\n{}", fault_help()));
}

}  // namespace poise::loadgen
