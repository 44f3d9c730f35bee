#include "ctl/show.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>

namespace poise::ctl {
namespace {

std::string text(const Json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : "";
}

std::string number(const Json& object, const char* key) {
  return std::to_string(object.value(key, std::uint64_t{0}));
}

std::string of(const Json& object, const char* key, const char* limit) {
  const auto max = object.value(limit, std::uint64_t{0});
  return max == 0 ? number(object, key) : fmt::format("{}/{}", number(object, key), max);
}

/// With the rate, where one is known.
std::string total(const Json& object, const char* key) {
  const auto rate = object.find("sessions_per_s");
  return number(object, key) + (rate != object.end() && rate->is_number()
                                    ? fmt::format(" ({}/s)", rate->get<std::uint64_t>())
                                    : "");
}

std::string bytes(const Json& object, const std::string& key) {
  const auto rate = object.find(key + "_per_s");
  return short_bytes(object.value(key, std::uint64_t{0})) +
         (rate != object.end() && rate->is_number()
              ? fmt::format(" ({}/s)", short_bytes(rate->get<std::uint64_t>()))
              : "");
}

std::string joined(const Json& list, const char* between) {
  std::string out;
  for (const Json& each : list) {
    if (!out.empty()) out += between;
    out += each.get<std::string>();
  }
  return out;
}

std::string age(std::uint64_t seconds) {
  if (seconds < 60) return fmt::format("{}s", seconds);
  if (seconds < 3600) return fmt::format("{}m{:02}s", seconds / 60, seconds % 60);
  return fmt::format("{}h{:02}m", seconds / 3600, seconds / 60 % 60);
}

Colour colour_of_verdict(const std::string& verdict) {
  return verdict == "ok" ? Colour::good : verdict == "warning" ? Colour::doubtful : Colour::bad;
}

std::string with_user(const Json& object) {
  const std::string reason = text(object, "reason"), user = text(object, "user");
  if (user.empty()) return reason;
  return reason.empty() ? fmt::format("({})", user) : fmt::format("{} ({})", reason, user);
}

}  // namespace

Colour colour_of_state(const std::string& state) {
  if (state == "up" || state == "enabled") return Colour::good;
  return state == "down" ? Colour::bad : Colour::doubtful;
}

std::string show_status(const Json& status, const Screen& screen) {
  std::string out =
      painted(text(status, "sentence"), colour_of_verdict(text(status, "verdict")), screen) + "\n";
  for (const Json& problem : status["problems"])
    out += fmt::format("  - {}\n", problem.get<std::string>());
  if (status.contains("pair") && status["pair"].is_object()) {
    const Json& pair = status["pair"];
    out += fmt::format("pair: {} is {}; {} is {}\n", text(pair, "node"), text(pair, "role"),
                       text(pair, "peer"), text(pair, "peer_role"));
  }
  out += painted(fmt::format("poised {} on {}, pid {}, {} workers, since {}\n"
                             "{} of {} sessions open, {} so far; configuration {} as of {}, {} "
                             "reloads, {} failed",
                             text(status, "version"), text(status, "hostname"),
                             number(status, "pid"), number(status, "workers"),
                             text(status, "started"), number(status, "sessions"),
                             number(status, "sessions_max"), number(status, "sessions_total"),
                             text(status, "config"), text(status, "reloaded"),
                             number(status, "reloads"), number(status, "reloads_failed")),
                 Colour::soft, screen) +
         "\n";
  return out;
}

std::string show_pair(const Json& pair, const Screen& screen) {
  const std::string role = text(pair, "role");
  const bool linked = pair.value("linked", false), in_sync = pair.value("in_sync", false);
  std::string out = fmt::format(
      "{} is {}\n", text(pair, "node"),
      painted(role, role == "fault" || role == "unknown" ? Colour::bad : Colour::good, screen));
  if (pair["instances"].size() > 1)
    for (const auto& [name, state] : pair["instances"].items())
      out += fmt::format("  {}: {}\n", name, state.get<std::string>());
  for (const Json& each : pair["faults"])
    out += fmt::format("  - may not have the addresses: {}\n", each.get<std::string>());
  if (!linked)
    return out + fmt::format("{} ({}): {}\n", text(pair, "peer"), text(pair, "peer_address"),
                             painted("no link: " + text(pair, "trouble"), Colour::bad, screen));
  out += fmt::format("{} ({}) is {}; poise {}, linked for {} s, {}\n", text(pair, "peer"),
                     text(pair, "peer_address"), text(pair, "peer_role"),
                     text(pair, "peer_version"), number(pair, "since"),
                     painted(in_sync ? "in sync" : "not in sync",
                             in_sync ? Colour::good : Colour::doubtful, screen));
  out += fmt::format("configuration: {}\n", pair.value("same_config", false)
                                                ? "the same"
                                                : "another one (poisectl pair diff)");
  if (const double skew = pair.value("skew_seconds", 0.0); skew != 0)
    out += painted(fmt::format("its clock is {:+.1f} s from ours\n", skew), Colour::bad, screen);
  return out + painted(fmt::format("{} changes under way; sticky entries: {} told, {} heard\n",
                                   number(pair, "unacknowledged"), number(pair, "sticky_told"),
                                   number(pair, "sticky_heard")),
                       Colour::soft, screen);
}

std::string show_pair_difference(const Json& difference) {
  std::string out;
  for (const char* what : {"config", "state"})
    for (const Json& each : difference[what]) out += fmt::format("{}\n", each.get<std::string>());
  return out.empty() ? "no difference\n" : "here -> there\n" + out;
}

std::string show_services(const Json& services, const Screen& screen) {
  Table table({{"SERVICE", false, 100},
               {"STATE", false, 90},
               {"PROTOCOL", false, 30},
               {"FORWARDING", false, 25},
               {"LISTEN", false, 20},
               {"POOL", false, 50},
               {"UP", true, 80},
               {"SESSIONS", true, 85},
               {"TOTAL", true, 60},
               {"REFUSED", true, 70},
               {"TO CLIENTS", true, 11},
               {"TO BACKENDS", true, 10},
               {"REASON", false, 40}});
  for (const Json& each : services) {
    const std::string admin = text(each, "admin");
    table.add({text(each, "name"),
               {admin, colour_of_state(admin)},
               text(each, "protocol"),
               text(each, "forwarding"),
               joined(each["listen"], " "),
               text(each, "pool"),
               {fmt::format("{}/{}", number(each, "backends_up"), number(each, "backends")),
                each.value("backends_up", 0) == 0 ? Colour::bad : Colour::none},
               of(each, "sessions", "max_sessions"),
               total(each, "sessions_total"),
               number(each, "refusals"),
               bytes(each, "bytes_to_client"),
               bytes(each, "bytes_to_backend"),
               with_user(each)});
  }
  return table.text(screen);
}

std::string show_backends(const Json& backends, const Screen& screen) {
  Table table({{"BACKEND", false, 100},
               {"ADDRESS", false, 40},
               {"STATE", false, 95},
               {"WEIGHT", true, 50},
               {"TIER", true, 20},
               {"SESSIONS", true, 90},
               {"TOTAL", true, 60},
               {"RETRIES", true, 55},
               {"TO CLIENTS", true, 11},
               {"TO BACKENDS", true, 10},
               {"REASON", false, 70}});
  for (const Json& each : backends) {
    const std::string state = text(each, "state");
    std::string reason = with_user(each);
    if (each.contains("closing_for") && each["closing_for"].is_number())
      reason = fmt::format("let go within {}{}{}", age(each["closing_for"].get<std::uint64_t>()),
                           reason.empty() ? "" : "; ", reason);
    const bool set = each.value("weight", 0) != each.value("weight_configured", 0);
    table.add({fmt::format("{}/{}", text(each, "pool"), text(each, "name")),
               text(each, "address"),
               {state, colour_of_state(state)},
               set ? fmt::format("{} (file: {})", number(each, "weight"),
                                 number(each, "weight_configured"))
                   : number(each, "weight"),
               number(each, "tier"),
               of(each, "sessions", "max_sessions"),
               total(each, "sessions_total"),
               number(each, "retries"),
               bytes(each, "bytes_to_client"),
               bytes(each, "bytes_to_backend"),
               reason});
  }
  return table.text(screen);
}

std::string show_sessions(const Json& list, const Screen& screen) {
  Table table({{"ID", false, 100},
               {"CLIENT", false, 95},
               {"SERVICE", false, 80},
               {"BACKEND", false, 90},
               {"STATE", false, 70},
               {"AGE", true, 85},
               {"TO CLIENT", true, 50},
               {"TO BACKEND", true, 49},
               {"SPOKE LAST", false, 40},
               {"VIP", false, 10}});
  for (const Json& each : list["sessions"])
    table.add({number(each, "id"), text(each, "client"), text(each, "service"),
               text(each, "backend").empty() ? "-" : text(each, "backend"), text(each, "state"),
               age(each.value("age", std::uint64_t{0})), bytes(each, "bytes_to_client"),
               bytes(each, "bytes_to_backend"), text(each, "spoke_last"), text(each, "vip")});
  std::string out = table.text(screen);
  const auto matching = list.value("matching", std::uint64_t{0});
  if (matching > list["sessions"].size())
    out +=
        fmt::format("({} of {} sessions; --limit shows more)\n", list["sessions"].size(), matching);
  return out;
}

std::string show_troubled(const Json& sessions, const Screen& screen) {
  Table table({{"TIME", false, 100},
               {"CLIENT", false, 95},
               {"SERVICE", false, 60},
               {"OUTCOME", false, 90},
               {"TRIES", false, 80}});
  for (const Json& each : sessions) {
    std::string tries;
    for (const Json& one : each["tries"]) {
      const std::string words = text(one, "words");
      tries +=
          fmt::format("{}{}: {}{}", tries.empty() ? "" : ", ", text(one, "backend"),
                      text(one, "outcome"), words.empty() ? "" : fmt::format(" \"{}\"", words));
    }
    const bool refused = !text(each, "reason").empty();
    table.add({text(each, "time"),
               text(each, "client"),
               text(each, "service"),
               {refused                         ? "refused: " + text(each, "reason")
                : text(each, "backend").empty() ? std::string("left")
                                                : "served by " + text(each, "backend"),
                refused ? Colour::bad : Colour::good},
               tries});
  }
  return sessions.empty() ? "none lately\n" : table.text(screen);
}

std::string show_events(const Json& events, const Screen& screen) {
  std::string out;
  for (const Json& each : events) {
    const std::string why = with_user(each);
    out += fmt::format("{}  {} {}: {}{}\n", painted(text(each, "time"), Colour::soft, screen),
                       text(each, "kind"), text(each, "object"), text(each, "what"),
                       why.empty() ? "" : "  " + painted(why, Colour::soft, screen));
  }
  return out.empty() ? "no events\n" : out;
}

std::string show_why(const Json& why, const Screen& screen) {
  std::string out;
  for (const Json& step : why["steps"]) out += fmt::format("  {}\n", step.get<std::string>());
  const std::string backend = text(why, "backend");
  const std::string verdict = backend.empty()
                                  ? fmt::format("A new session of {} from {} would be refused.",
                                                text(why, "service"), text(why, "client"))
                                  : fmt::format("A new session of {} from {} would get {}.",
                                                text(why, "service"), text(why, "client"), backend);
  return painted(verdict, backend.empty() ? Colour::bad : Colour::good, screen) + "\n" + out;
}

std::string show_sticky(const Json& list, const Screen& screen) {
  Table table(
      {{"SOURCE", false, 100}, {"BACKEND", false, 95}, {"IDLE", true, 80}, {"POOL", false, 50}});
  for (const Json& each : list["entries"])
    table.add({text(each, "source"), text(each, "backend"),
               age(each.value("idle", std::uint64_t{0})), text(each, "pool")});
  if (list["entries"].empty()) return "no source is remembered\n";
  std::string out = table.text(screen);
  if (const auto matching = list.value("matching", std::uint64_t{0});
      matching > list["entries"].size())
    out +=
        fmt::format("({} of {} entries; --limit shows more)\n", list["entries"].size(), matching);
  return out;
}

std::string show_bans(const Json& bans, const Screen& screen) {
  Table table(
      {{"NETWORK", false, 100}, {"UNTIL", false, 90}, {"SINCE", false, 50}, {"REASON", false, 70}});
  for (const Json& each : bans) {
    const std::string until = text(each, "until");
    table.add({text(each, "network"), until.empty() ? "for ever" : until, text(each, "since"),
               with_user(each)});
  }
  return bans.empty() ? "nobody is banned\n" : table.text(screen);
}

namespace {

std::string milliseconds_of(const Json& object, const char* key) {
  const double seconds = object.value(key, 0.0);
  return seconds == 0 ? "-" : fmt::format("{:.1f} ms", seconds * 1000);
}

std::string outcome_of(const Json& probe, const Screen& screen) {
  const bool good = probe.value("good", false);
  return fmt::format("{}{}: {}",
                     painted(text(probe, "outcome"), good ? Colour::good : Colour::bad, screen),
                     good ? "" : " at " + text(probe, "step"), text(probe, "reply"));
}

std::string transcript_of(const Json& probe) {
  std::string out;
  for (const Json& line : probe["transcript"]) {
    const std::string from = text(line, "from");
    out += fmt::format("{:9.4f} {} {}\n", line.value("at_seconds", 0.0),
                       from == "us"       ? "->"
                       : from == "server" ? "<-"
                                          : "--",
                       text(line, "text"));
  }
  return out;
}

}  // namespace

std::string show_probe(const Json& probe, const Screen& screen) {
  std::string out =
      fmt::format("probe of {} ({}), {}{}\n", text(probe, "backend"), text(probe, "address"),
                  text(probe, "type"), probe.value("deep", false) ? ", deep" : "") +
      transcript_of(probe);
  if (const Json& tls = probe["tls"]; tls.is_object())
    out += fmt::format(
        "tls      {} {}\n         subject {}\n         names {}\n         issuer {}\n"
        "         not after {:%Y-%m-%d %H:%M:%S} UTC\n         verification: {}\n",
        text(tls, "protocol"), text(tls, "cipher"), text(tls, "subject"), joined(tls["names"], " "),
        text(tls, "issuer"),
        fmt::gmtime(static_cast<std::time_t>(tls.value("not_after", std::int64_t{0}))),
        text(tls, "verify_result"));
  out += fmt::format(
      "time     connect {}, greeting {}, in all {}\n", milliseconds_of(probe, "connect_seconds"),
      milliseconds_of(probe, "greeting_seconds"), milliseconds_of(probe, "duration_seconds"));
  return out + fmt::format("outcome  {}\n", outcome_of(probe, screen));
}

std::string show_headers(const Json& backends, const Screen& screen) {
  std::string out;
  for (const Json& each : backends) {
    out += painted(text(each, "backend"), each.value("good", false) ? Colour::good : Colour::bad,
                   screen) +
           "\n";
    for (const Json& path : each["paths"])
      out += fmt::format("  {:9} {}\n", text(path, "path"), outcome_of(path, screen));
    out += fmt::format("  {}\n", text(each, "sentence"));
  }
  return out;
}

std::string show_doctor(const Json& findings, const Screen& screen) {
  std::string out;
  for (const Json& each : findings) {
    const std::string verdict = text(each, "verdict"), advice = text(each, "advice");
    out += fmt::format(
        "{} {}\n", painted(verdict == "ok" ? "ok  " : "look", colour_of_verdict(verdict), screen),
        text(each, "what"));
    if (!advice.empty()) out += fmt::format("       {}\n", advice);
  }
  return out;
}

std::string show_reload(const Json& reload, bool dry_run, const Screen& screen) {
  std::string out;
  for (const Json& each : reload["errors"])
    out += painted("error: ", Colour::bad, screen) + each.get<std::string>() + "\n";
  for (const Json& each : reload["warnings"])
    out += painted("warning: ", Colour::doubtful, screen) + each.get<std::string>() + "\n";
  for (const Json& each : reload["changes"]) out += "  " + each.get<std::string>() + "\n";
  if (!reload["errors"].empty()) return out + "Nothing changed.\n";
  const std::string running = number(reload, "running_on");
  out += fmt::format(
      "{} {} changes; {} sessions {} cut, {} of what is removed {} until they end.\n",
      dry_run ? "A reload makes" : "Reloaded:", reload["changes"].size(), number(reload, "cut"),
      dry_run ? "would be" : "were", running, dry_run ? "would go on" : "go on");
  return out;
}

std::string show_said(const Json& said) {
  if (said.is_string()) return said.get<std::string>() + "\n";
  if (!said.is_array()) return said.dump(2) + "\n";
  std::string out;
  for (const Json& each : said)
    out += (each.is_string() ? each.get<std::string>() : each.dump()) + "\n";
  return out;
}

}  // namespace poise::ctl
