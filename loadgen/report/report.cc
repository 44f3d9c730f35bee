#include "loadgen/report/report.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace poise::loadgen {
namespace {

constexpr std::uint64_t kBarWidth = 40;
constexpr std::size_t kSecondsAnHour = 3600;

using Names = std::map<std::string, std::uint64_t, std::less<>>;

nlohmann::json latency_json(const Histogram& histogram) {
  return {{"count", histogram.count()},
          {"mean", histogram.mean() / 1e9},
          {"p50", seconds(histogram.percentile(50))},
          {"p90", seconds(histogram.percentile(90))},
          {"p99", seconds(histogram.percentile(99))},
          {"p99.9", seconds(histogram.percentile(99.9))},
          {"max", seconds(histogram.max())}};
}

nlohmann::json failures_json(const FailureCounts& counts, bool all) {
  nlohmann::json failures = nlohmann::json::object();
  for (std::size_t at = 1; at < counts.size(); ++at) {
    if (all || counts[at] > 0) failures[std::string(kFailureNames[at])] = counts[at];
  }
  return failures;
}

std::uint64_t sum_of(const FailureCounts& counts) {
  std::uint64_t sum = 0;
  for (const std::uint64_t count : counts) sum += count;
  return sum;
}

std::string latency_heading(std::string_view name) {
  return fmt::format("\n  {:<24} {:>9} {:>9} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9}\n", name, "count",
                     "/s", "errors", "p50", "p90", "p99", "p99.9", "max");
}

std::string latency_row(const RunResult& result, std::string_view name, const Histogram& histogram,
                        std::uint64_t errors) {
  return fmt::format(
      "  {:<24} {:>9} {:>9.1f} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9}\n", name, histogram.count(),
      result.per_second(histogram.count()), errors, duration_text(histogram.percentile(50)),
      duration_text(histogram.percentile(90)), duration_text(histogram.percentile(99)),
      duration_text(histogram.percentile(99.9)), duration_text(histogram.max()));
}

/// Calls `row` for each command of each block that was ever asked.
template <class Row>
void each_command(const Tally& tally, Row row) {
  for (const BlockTally& block : tally.blocks) {
    for (std::size_t at = 0; at < block.commands.size(); ++at) {
      const CommandTally& command = block.commands[at];
      const std::uint64_t errors = sum_of(command.failures);
      if (command.answered.count() + errors > 0)
        row(block, static_cast<Command>(at), command, errors);
    }
  }
}

/// The blocks of one protocol taken together.
std::vector<BlockTally> by_protocol(const Tally& tally) {
  std::vector<BlockTally> protocols;
  for (const BlockTally& block : tally.blocks) {
    auto found = std::find_if(protocols.begin(), protocols.end(), [&](const BlockTally& protocol) {
      return protocol.protocol == block.protocol;
    });
    if (found == protocols.end()) {
      found = protocols.emplace(protocols.end());
      found->protocol = block.protocol;
      found->name = name_of(block.protocol);
    }
    found->started += block.started;
    found->ok += block.ok;
    found->failed += block.failed;
    found->submits += block.submits;
    found->fetches += block.fetches;
    found->bytes_sent += block.bytes_sent;
    found->bytes_received += block.bytes_received;
    found->session.merge(block.session);
  }
  return protocols;
}

std::vector<Straggler> slowest(const Tally& tally) {
  std::vector<Straggler> list = tally.stragglers;
  std::sort(list.begin(), list.end(),
            [](const Straggler& a, const Straggler& b) { return a.took > b.took; });
  return list;
}

struct Hour {
  std::uint64_t ok = 0;
  std::uint64_t failed = 0;
  std::uint64_t submits = 0;
  std::uint64_t connection_errors = 0;
  Nanos p99_worst = 0;
};

std::vector<Hour> by_hour(const Tally& tally) {
  std::vector<Hour> hours;
  for (std::size_t at = 0; at < tally.intervals.size(); ++at) {
    if (at % kSecondsAnHour == 0) hours.emplace_back();
    const Interval& second = tally.intervals[at];
    Hour& hour = hours.back();
    hour.ok += second.ok;
    hour.failed += second.failed;
    hour.submits += second.submits;
    hour.connection_errors += second.connection_errors;
    hour.p99_worst = std::max(hour.p99_worst, second.p99);
  }
  return hours;
}

void add_tables(const RunResult& result, std::string& text) {
  const Tally& tally = result.tally;
  const auto out = std::back_inserter(text);
  const std::vector<BlockTally> protocols = by_protocol(tally);
  if (protocols.size() > 1 || tally.blocks.size() > 1) {
    fmt::format_to(out, "\n  {:<24} {:>9} {:>9} {:>7} {:>9} {:>9} {:>11} {:>11}\n", "protocol",
                   "sessions", "/s", "failed", "submits", "fetches", "sent", "received");
    const auto row = [&](const BlockTally& block) {
      fmt::format_to(out, "  {:<24} {:>9} {:>9.1f} {:>7} {:>9} {:>9} {:>11} {:>11}\n", block.name,
                     block.ok + block.failed, result.per_second(block.ok + block.failed),
                     block.failed, block.submits, block.fetches, bytes_text(block.bytes_sent),
                     bytes_text(block.bytes_received));
    };
    for (const BlockTally& protocol : protocols) row(protocol);
    text += "  block\n";
    for (const BlockTally& block : tally.blocks) row(block);
  }
  text += latency_heading("command");
  each_command(tally, [&](const BlockTally& block, Command command, const CommandTally& counts,
                          std::uint64_t errors) {
    const std::string name = tally.blocks.size() > 1
                                 ? fmt::format("{}.{}", block.name, name_of(command))
                                 : std::string(name_of(command));
    text += latency_row(result, name, counts.answered, errors);
  });
}

void add_hours(const Tally& tally, std::string& text) {
  if (tally.intervals.size() <= kSecondsAnHour) return;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "\n  {:<6} {:>10} {:>9} {:>10} {:>18} {:>16}\n", "hour", "ok", "failed",
                 "submits", "connection errors", "worst second p99");
  std::size_t number = 0;
  for (const Hour& hour : by_hour(tally)) {
    fmt::format_to(out, "  {:<6} {:>10} {:>9} {:>10} {:>18} {:>16}\n", number++, hour.ok,
                   hour.failed, hour.submits, hour.connection_errors,
                   duration_text(hour.p99_worst));
  }
}

void add_failures(const Tally& tally, std::string& text) {
  const auto out = std::back_inserter(text);
  if (sum_of(tally.failures) > 0) text += "\nfailed connections, by kind\n";
  for (std::size_t at = 0; at < tally.failures.size(); ++at) {
    if (tally.failures[at] > 0)
      fmt::format_to(out, "  {:<24} {:>9}\n", kFailureNames[at], tally.failures[at]);
  }
  const auto add_names = [&](std::string_view heading, const Names& names) {
    if (!names.empty()) fmt::format_to(out, "\n{}\n", heading);
    for (const auto& [name, count] : names) fmt::format_to(out, "  {:<24} {:>9}\n", name, count);
  };
  add_names("refusing replies, by code", tally.codes);
  add_names("TLS errors", tally.tls_errors);
  if (tally.failures[static_cast<std::size_t>(Failure::local)] > 0) {
    text +=
        "\n\"local\" is this machine's own limit (ports or file descriptors), not the target's: "
        "give --source a range,\n"
        "fewer --clients, or more file descriptors (ulimit -n).\n";
  }
}

}  // namespace

double RunResult::connection_error_percent() const {
  return tally.attempts == 0 ? 0
                             : 100.0 * static_cast<double>(tally.connection_errors()) /
                                   static_cast<double>(tally.attempts);
}

double RunResult::busy_percent() const {
  return elapsed > 0 ? 100.0 * seconds(cpu) / seconds(elapsed) : 0;
}

double RunResult::ceiling() const {
  return cpu > 0 ? static_cast<double>(tally.ok + tally.failed) / seconds(cpu) : 0;
}

bool RunResult::submits_mail() const {
  return tally.submits > 0 || tally.blocks.empty() ||
         std::any_of(tally.blocks.begin(), tally.blocks.end(),
                     [](const BlockTally& block) { return is_smtp(block.protocol); });
}

std::string duration_text(Nanos span) {
  const double value = seconds(span);
  if (value >= 1) return fmt::format("{:.{}f} s", value, value >= 100 ? 0 : value >= 10 ? 1 : 2);
  const double milli = value * 1000;
  return fmt::format("{:.{}f} ms", milli, milli >= 100 ? 0 : milli >= 10 ? 1 : milli >= 1 ? 2 : 3);
}

std::string bytes_text(std::uint64_t bytes) {
  static constexpr std::array<std::string_view, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 1, kUnits[unit]);
}

std::string report_text(const RunResult& result) {
  const Tally& tally = result.tally;
  const std::uint64_t ended = tally.ok + tally.failed;
  std::string text;
  const auto out = std::back_inserter(text);
  if (result.submits_mail())
    fmt::format_to(out, "submits/s          {:.1f}\n", result.per_second(tally.submits));
  else
    fmt::format_to(out, "fetches/s          {:.1f}\n", result.per_second(tally.fetches));
  fmt::format_to(out, "connection errors  {:.2f} % ({} of {})\n\n",
                 result.connection_error_percent(), tally.connection_errors(), tally.attempts);
  fmt::format_to(out, "sessions/s         {:.1f}\n", result.per_second(ended));
  fmt::format_to(out, "sessions           {} ok, {} failed{}{}\n", tally.ok, tally.failed,
                 result.unfinished > 0 ? fmt::format(", {} unfinished", result.unfinished) : "",
                 result.queued > 0 ? fmt::format(", {} still queued", result.queued) : "");
  if (tally.fallbacks + tally.deferrals > 0) {
    fmt::format_to(out, "tried elsewhere    {} times at the next host\n", tally.fallbacks);
    fmt::format_to(out, "deferred           {} times; {} sessions went well later{}\n",
                   tally.deferrals, tally.deferred_ok,
                   tally.delay.count() > 0 ? fmt::format(" (delay p50 {}, max {})",
                                                         duration_text(tally.delay.percentile(50)),
                                                         duration_text(tally.delay.max()))
                                           : "");
  }
  if (result.submits_mail()) fmt::format_to(out, "messages accepted  {}\n", tally.submits);
  if (!result.submits_mail() || tally.fetches > 0)
    fmt::format_to(out, "messages fetched   {}\n", tally.fetches);
  fmt::format_to(out, "bytes              {} sent, {} received\n", tally.bytes_sent,
                 tally.bytes_received);
  fmt::format_to(out, "time               {}{}, {}\n", duration_text(result.elapsed),
                 result.interrupted ? ", interrupted" : "",
                 result.rate > 0 ? fmt::format("open loop, {:g} sessions/s asked for", result.rate)
                                 : fmt::format("closed loop, {} clients", result.clients));
  fmt::format_to(out, "concurrent         {} connections at most\n", result.peak);
  fmt::format_to(out,
                 "generator          at {:.0f} % of its ceiling ({:.0f} sessions/s like these)",
                 result.busy_percent(), result.ceiling());
  text += result.busy_percent() > 90 ? "; it may be what limits these figures\n" : "\n";

  text += latency_heading("latency");
  text += latency_row(result, "connect", tally.connect, 0);
  text += latency_row(result, "greeting", tally.greeting, 0);
  text += latency_row(result, "session", tally.session, tally.failed);
  add_tables(result, text);
  add_hours(tally, text);

  if (!tally.by_server.empty()) text += "\nsessions per server (by the name in its greeting)\n";
  for (const auto& [name, count] : tally.by_server)
    fmt::format_to(out, "  {:<24} {:>9}\n", name, count);
  if (result.targets.size() > 1) {
    fmt::format_to(out, "\n  {:<24} {:>11} {:>18} {:>9}\n",
                   fmt::format("target ({})", result.choice), "connections", "connection errors",
                   "submits");
    for (std::size_t at = 0; at < result.targets.size(); ++at) {
      const TargetTally& target = tally.by_target[at];
      fmt::format_to(out, "  {:<24} {:>11} {:>18} {:>9}\n", result.targets[at], target.attempts,
                     target.connection_errors, target.submits);
    }
  }
  add_failures(tally, text);
  if (!tally.stragglers.empty()) {
    fmt::format_to(out, "\n  {:<24} {:>9} {:>9} {:<24} {:>8} {}\n", "worst stragglers", "took",
                   "began at", " target", "attempts", "end");
    for (const Straggler& one : slowest(tally)) {
      fmt::format_to(out, "  {:<24} {:>9} {:>9}  {:<23} {:>8} {}\n",
                     fmt::format("session {}", one.number), duration_text(one.took),
                     duration_text(one.began), result.targets.at(one.target), one.attempts,
                     one.failure == Failure::none ? "ok" : name_of(one.failure));
    }
  }
  return text;
}

nlohmann::json report_json(const RunResult& result) {
  const Tally& tally = result.tally;
  nlohmann::json targets = nlohmann::json::array();
  for (std::size_t at = 0; at < result.targets.size(); ++at) {
    const TargetTally& target = tally.by_target[at];
    targets.push_back({{"address", result.targets[at]},
                       {"attempts", target.attempts},
                       {"connection_errors", target.connection_errors},
                       {"submits", target.submits}});
  }
  nlohmann::json intervals = nlohmann::json::array();
  for (const Interval& second : tally.intervals) {
    intervals.push_back({{"ok", second.ok},
                         {"failed", second.failed},
                         {"submits", second.submits},
                         {"connection_errors", second.connection_errors},
                         {"p50", seconds(second.p50)},
                         {"p99", seconds(second.p99)}});
  }
  nlohmann::json blocks = nlohmann::json::array();
  for (const BlockTally& block : tally.blocks) {
    blocks.push_back({{"name", block.name},
                      {"protocol", name_of(block.protocol)},
                      {"sessions", block.started},
                      {"ok", block.ok},
                      {"failed", block.failed},
                      {"submits", block.submits},
                      {"fetches", block.fetches},
                      {"bytes_sent", block.bytes_sent},
                      {"bytes_received", block.bytes_received},
                      {"session_seconds", latency_json(block.session)},
                      {"commands", nlohmann::json::array()}});
  }
  std::size_t at = 0;
  each_command(tally, [&](const BlockTally& block, Command command, const CommandTally& counts,
                          std::uint64_t errors) {
    while (&tally.blocks[at] != &block) ++at;
    blocks[at]["commands"].push_back({{"name", name_of(command)},
                                      {"count", counts.answered.count()},
                                      {"per_second", result.per_second(counts.answered.count())},
                                      {"errors", errors},
                                      {"failures", failures_json(counts.failures, false)},
                                      {"seconds", latency_json(counts.answered)}});
  });
  nlohmann::json hours = nlohmann::json::array();
  for (const Hour& hour : by_hour(tally)) {
    hours.push_back({{"ok", hour.ok},
                     {"failed", hour.failed},
                     {"submits", hour.submits},
                     {"connection_errors", hour.connection_errors},
                     {"p99_worst_second", seconds(hour.p99_worst)}});
  }
  nlohmann::json stragglers = nlohmann::json::array();
  for (const Straggler& one : slowest(tally)) {
    stragglers.push_back({{"session", one.number},
                          {"seconds", seconds(one.took)},
                          {"began", seconds(one.began)},
                          {"target", result.targets.at(one.target)},
                          {"attempts", one.attempts},
                          {"end", one.failure == Failure::none ? "ok" : name_of(one.failure)}});
  }
  return {
      {"submits_per_second", result.per_second(tally.submits)},
      {"connection_error_percent", result.connection_error_percent()},
      {"connection_errors", tally.connection_errors()},
      {"title", result.title},
      {"run", result.run_id},
      {"choose", result.choice},
      {"targets", targets},
      {"loop", result.rate > 0 ? "open" : "closed"},
      {"clients", result.rate > 0 ? nlohmann::json() : nlohmann::json(result.clients)},
      {"rate", result.rate > 0 ? nlohmann::json(result.rate) : nlohmann::json()},
      {"elapsed_seconds", seconds(result.elapsed)},
      {"interrupted", result.interrupted},
      {"sessions",
       {{"started", tally.started},
        {"ok", tally.ok},
        {"failed", tally.failed},
        {"unfinished", result.unfinished},
        {"queued", result.queued},
        {"attempts", tally.attempts},
        {"fallbacks", tally.fallbacks},
        {"deferrals", tally.deferrals},
        {"deferred_ok", tally.deferred_ok},
        {"concurrent_max", result.peak},
        {"per_second", result.per_second(tally.ok + tally.failed)}}},
      {"submits", tally.submits},
      {"fetches", tally.fetches},
      {"fetches_per_second", result.per_second(tally.fetches)},
      {"bytes_sent", tally.bytes_sent},
      {"bytes_received", tally.bytes_received},
      {"failures", failures_json(tally.failures, true)},
      {"codes", tally.codes},
      {"tls_errors", tally.tls_errors},
      {"sessions_by_server", tally.by_server},
      {"latency_seconds",
       {{"connect", latency_json(tally.connect)},
        {"greeting", latency_json(tally.greeting)},
        {"session", latency_json(tally.session)},
        {"delay", latency_json(tally.delay)}}},
      {"blocks", blocks},
      {"generator",
       {{"cpu_seconds", seconds(result.cpu)},
        {"busy_percent", result.busy_percent()},
        {"ceiling_sessions_per_second", result.ceiling()}}},
      {"hours", hours},
      {"stragglers", stragglers},
      {"intervals", intervals},
  };
}

std::string report_csv(const RunResult& result) {
  std::string text =
      "block,protocol,command,count,per_second,errors,p50,p90,p99,p99.9,max,bytes_sent,"
      "bytes_received\n";
  const auto out = std::back_inserter(text);
  const auto row = [&](const BlockTally& block, std::string_view command,
                       const Histogram& histogram, std::uint64_t errors, bool whole) {
    fmt::format_to(out, "{},{},{},{},{:.3f},{},{:.6f},{:.6f},{:.6f},{:.6f},{:.6f},{},{}\n",
                   block.name, name_of(block.protocol), command, histogram.count(),
                   result.per_second(histogram.count()), errors, seconds(histogram.percentile(50)),
                   seconds(histogram.percentile(90)), seconds(histogram.percentile(99)),
                   seconds(histogram.percentile(99.9)), seconds(histogram.max()),
                   whole ? fmt::to_string(block.bytes_sent) : "",
                   whole ? fmt::to_string(block.bytes_received) : "");
  };
  for (const BlockTally& block : result.tally.blocks)
    row(block, "session", block.session, block.failed, true);
  each_command(result.tally, [&](const BlockTally& block, Command command,
                                 const CommandTally& counts, std::uint64_t errors) {
    row(block, name_of(command), counts.answered, errors, false);
  });
  return text;
}

std::string progress_line(std::uint64_t second, const Interval& interval, std::uint64_t ended,
                          std::uint64_t active, std::uint64_t peak) {
  const std::uint64_t all = interval.ok + interval.failed;
  peak = std::max<std::uint64_t>({peak, all, 1});
  // One failure among thousands still shows.
  std::uint64_t bad = (interval.failed * kBarWidth + peak - 1) / peak;
  std::uint64_t good = all * kBarWidth / peak;
  good = good > bad ? good - bad : (interval.ok > 0 ? 1 : 0);
  bad = std::min(bad, kBarWidth - good);
  return fmt::format("{:>5} s {:>7}/s {:>10} ended {:>6} open  {}{}", second, all, ended, active,
                     std::string(good, '*'), std::string(bad, '-'));
}

}  // namespace poise::loadgen
