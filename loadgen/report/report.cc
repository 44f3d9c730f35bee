#include "loadgen/report/report.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace poise::loadgen {
namespace {

constexpr std::uint64_t kBarWidth = 40;

using Names = std::map<std::string, std::uint64_t, std::less<>>;

bool submits_mail(const RunResult& result) {
  return result.protocol == "smtp" || result.protocol == "submission" || result.protocol == "lmtp";
}

nlohmann::json latency_json(const Histogram& histogram) {
  return {{"count", histogram.count()},
          {"mean", histogram.mean() / 1e9},
          {"p50", seconds(histogram.percentile(50))},
          {"p90", seconds(histogram.percentile(90))},
          {"p99", seconds(histogram.percentile(99))},
          {"p99.9", seconds(histogram.percentile(99.9))},
          {"max", seconds(histogram.max())}};
}

std::string latency_row(std::string_view name, const Histogram& histogram) {
  return fmt::format("  {:<10} {:>9} {:>11} {:>11} {:>11} {:>11}\n", name, histogram.count(),
                     duration_text(histogram.percentile(50)),
                     duration_text(histogram.percentile(90)),
                     duration_text(histogram.percentile(99)), duration_text(histogram.max()));
}

}  // namespace

double RunResult::connection_error_percent() const {
  const std::uint64_t ended = tally.ok + tally.failed;
  return ended == 0
             ? 0
             : 100.0 * static_cast<double>(tally.connection_errors()) / static_cast<double>(ended);
}

double RunResult::busy_percent() const {
  return elapsed > 0 ? 100.0 * seconds(cpu) / seconds(elapsed) : 0;
}

std::string duration_text(Nanos span) {
  const double value = seconds(span);
  if (value >= 1) return fmt::format("{:.{}f} s", value, value >= 100 ? 0 : value >= 10 ? 1 : 2);
  const double milli = value * 1000;
  return fmt::format("{:.{}f} ms", milli, milli >= 100 ? 0 : milli >= 10 ? 1 : milli >= 1 ? 2 : 3);
}

std::string report_text(const RunResult& result) {
  const Tally& tally = result.tally;
  const std::uint64_t ended = tally.ok + tally.failed;
  std::string text;
  const auto out = std::back_inserter(text);
  if (submits_mail(result))
    fmt::format_to(out, "submits/s          {:.1f}\n", result.per_second(tally.submits));
  else
    fmt::format_to(out, "fetches/s          {:.1f}\n", result.per_second(tally.fetches));
  fmt::format_to(out, "connection errors  {:.2f} % ({} of {})\n\n",
                 result.connection_error_percent(), tally.connection_errors(), ended);
  fmt::format_to(out, "sessions/s         {:.1f}\n", result.per_second(ended));
  fmt::format_to(out, "sessions           {} ok, {} failed{}\n", tally.ok, tally.failed,
                 result.unfinished > 0 ? fmt::format(", {} unfinished", result.unfinished) : "");
  if (submits_mail(result))
    fmt::format_to(out, "messages accepted  {}\n", tally.submits);
  else
    fmt::format_to(out, "messages fetched   {}\n", tally.fetches);
  fmt::format_to(out, "bytes              {} sent, {} received\n", tally.bytes_sent,
                 tally.bytes_received);
  fmt::format_to(out, "time               {}{}, {}\n", duration_text(result.elapsed),
                 result.interrupted ? ", interrupted" : "",
                 result.rate > 0 ? fmt::format("open loop, {:g} sessions/s asked for", result.rate)
                                 : fmt::format("closed loop, {} clients", result.clients));
  fmt::format_to(out, "generator          busy {:.0f} % of one CPU{}\n", result.busy_percent(),
                 result.busy_percent() > 90 ? "; it may be what limits these figures" : "");

  fmt::format_to(out, "\n  {:<10} {:>9} {:>11} {:>11} {:>11} {:>11}\n", "latency", "count", "p50",
                 "p90", "p99", "max");
  text += latency_row("connect", tally.connect);
  text += latency_row("greeting", tally.greeting);
  text += latency_row("session", tally.session);

  if (!tally.by_server.empty()) text += "\nsessions per server (by the name in its greeting)\n";
  for (const auto& [name, count] : tally.by_server)
    fmt::format_to(out, "  {:<24} {:>9}\n", name, count);
  if (result.targets.size() > 1) {
    text += "\nsessions per target\n";
    for (std::size_t at = 0; at < result.targets.size(); ++at) {
      fmt::format_to(out, "  {:<24} {:>9}\n", result.targets[at], tally.by_target[at]);
    }
  }
  if (tally.failed > 0) text += "\nfailed sessions, by kind\n";
  for (std::size_t at = 0; at < tally.failures.size(); ++at) {
    if (tally.failures[at] > 0)
      fmt::format_to(out, "  {:<24} {:>9}\n", kFailureNames[at], tally.failures[at]);
  }
  if (!tally.codes.empty()) text += "\nrefusing replies, by code\n";
  for (const auto& [code, count] : tally.codes)
    fmt::format_to(out, "  {:<24} {:>9}\n", code, count);
  if (tally.failures[static_cast<std::size_t>(Failure::local)] > 0) {
    text +=
        "\n\"local\" is this machine's own limit (ports or file descriptors), not the target's: "
        "give --source more than once,\n"
        "fewer --clients, or more file descriptors (ulimit -n).\n";
  }
  return text;
}

nlohmann::json report_json(const RunResult& result) {
  const Tally& tally = result.tally;
  nlohmann::json failures = nlohmann::json::object();
  for (std::size_t at = 1; at < tally.failures.size(); ++at)
    failures[std::string(kFailureNames[at])] = tally.failures[at];
  nlohmann::json targets = nlohmann::json::array();
  for (std::size_t at = 0; at < result.targets.size(); ++at) {
    targets.push_back({{"address", result.targets[at]}, {"sessions", tally.by_target[at]}});
  }
  nlohmann::json intervals = nlohmann::json::array();
  for (const Interval& second : tally.intervals) {
    intervals.push_back(
        {{"ok", second.ok}, {"failed", second.failed}, {"submits", second.submits}});
  }
  return {
      {"submits_per_second", result.per_second(tally.submits)},
      {"connection_error_percent", result.connection_error_percent()},
      {"connection_errors", tally.connection_errors()},
      {"protocol", result.protocol},
      {"script", result.script},
      {"run", result.run_id},
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
        {"per_second", result.per_second(tally.ok + tally.failed)}}},
      {"submits", tally.submits},
      {"fetches", tally.fetches},
      {"fetches_per_second", result.per_second(tally.fetches)},
      {"bytes_sent", tally.bytes_sent},
      {"bytes_received", tally.bytes_received},
      {"failures", failures},
      {"codes", tally.codes},
      {"sessions_by_server", tally.by_server},
      {"latency_seconds",
       {{"connect", latency_json(tally.connect)},
        {"greeting", latency_json(tally.greeting)},
        {"session", latency_json(tally.session)}}},
      {"generator",
       {{"cpu_seconds", seconds(result.cpu)}, {"busy_percent", result.busy_percent()}}},
      {"intervals", intervals},
  };
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
