#include "loadgen/server/schedule.h"

#include <fmt/format.h>

#include <algorithm>

#include "loadgen/text/times.h"

namespace poise::loadgen {

Result<Event> parse_event(std::string_view text, const std::vector<std::string>& names) {
  const auto wrong = [&](std::string what) { return Error{std::string(text), std::move(what)}; };
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos)
    return wrong("write TIME:WHAT or TIME:WHAT:NAME, as in 10s:stop:mx2");
  const Result<Nanos> at = parse_time(text.substr(0, colon));
  if (!at) return at.error();
  Event event;
  event.at = *at;
  std::string_view what = text.substr(colon + 1);
  if (const std::size_t last = what.rfind(':'); last != std::string_view::npos) {
    const std::string_view name = what.substr(last + 1);
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      event.server_name = name;
      what = what.substr(0, last);
    } else if (what.find('=') == std::string_view::npos) {
      return wrong(fmt::format("no server is named {}", name));  // a greeting may hold a colon
    }
  }
  if (what == "stop" || what == "start" || what == "heal") {
    event.kind = what == "stop"    ? Event::Kind::stop
                 : what == "start" ? Event::Kind::start
                                   : Event::Kind::heal;
    return event;
  }
  Faults trial;
  if (const Result<void> added = add_fault(what, trial); !added)
    return wrong(fmt::format("neither stop, start, heal nor a fault: {}", added.error().what));
  event.kind = Event::Kind::fault;
  event.fault = what;
  return event;
}

}  // namespace poise::loadgen
