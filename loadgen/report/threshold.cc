#include "loadgen/report/threshold.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

#include "config/document.h"
#include "config/nearest.h"
#include "loadgen/report/command.h"
#include "loadgen/text/times.h"

namespace poise::loadgen {
namespace {

struct Figure {
  std::string_view name;
  const char* pointer;  ///< RFC 6901, into report_json()
};

constexpr std::array kFigures{
    Figure{"submits", "/submits_per_second"},
    Figure{"fetches", "/fetches_per_second"},
    Figure{"errors", "/connection_errors"},
    Figure{"error_percent", "/connection_error_percent"},
    Figure{"sessions", "/sessions/per_second"},
    Figure{"failed", "/sessions/failed"},
    Figure{"deferrals", "/sessions/deferrals"},
    Figure{"busy_percent", "/generator/busy_percent"},
};
constexpr std::array<std::string_view, 6> kPercentiles{"mean", "p50", "p90", "p99", "p99.9", "max"};
constexpr std::array<std::string_view, 4> kSpans{"connect", "greeting", "session", "delay"};

/// "session.p99.9" -> "session", "p99.9"; a percentile alone is the session's.
bool split(std::string_view figure, std::string_view& of, std::string_view& percentile) {
  for (const std::string_view one : kPercentiles) {
    if (figure == one) {
      of = "session";
      percentile = one;
      return true;
    }
    if (figure.size() > one.size() + 1 && figure.ends_with(one) &&
        figure[figure.size() - one.size() - 1] == '.') {
      of = figure.substr(0, figure.size() - one.size() - 1);
      percentile = one;
      return true;
    }
  }
  return false;
}

bool is_command(std::string_view name, const std::vector<std::string>& blocks) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return false;
  return std::find(blocks.begin(), blocks.end(), name.substr(0, dot)) != blocks.end() &&
         std::find(kCommandNames.begin(), kCommandNames.end(), name.substr(dot + 1)) !=
             kCommandNames.end();
}

}  // namespace

Result<Threshold> parse_threshold(std::string_view text, const std::vector<std::string>& blocks) {
  const auto wrong = [&](std::string what) { return Error{std::string(text), std::move(what)}; };
  const std::size_t begin = text.find_first_of("<>=!");
  if (begin == std::string_view::npos || begin == 0)
    return wrong("write FIGURE>NUMBER, as in errors>0 or p99>200ms");
  const std::size_t end = text.find_first_not_of("<>=!", begin);
  Threshold threshold;
  threshold.text = text;
  threshold.figure = text.substr(0, begin);
  while (threshold.figure.ends_with(' ')) threshold.figure.pop_back();
  threshold.relation = text.substr(begin, end == std::string_view::npos ? end : end - begin);
  static constexpr std::array<std::string_view, 6> kRelations{">", ">=", "<", "<=", "==", "!="};
  if (std::find(kRelations.begin(), kRelations.end(), threshold.relation) == kRelations.end())
    return wrong(fmt::format("relations are {}", fmt::join(kRelations, " ")));
  std::string bound(end == std::string_view::npos ? "" : text.substr(end));
  while (bound.starts_with(' ')) bound.erase(0, 1);

  std::string_view of;
  std::string_view percentile;
  if (split(threshold.figure, of, percentile)) {
    if (std::find(kSpans.begin(), kSpans.end(), of) == kSpans.end() && !is_command(of, blocks))
      return wrong(fmt::format("no times of {}; there are {}, and BLOCK.COMMAND with the blocks {}",
                               of, fmt::join(kSpans, ", "), fmt::join(blocks, ", ")));
    const Result<Nanos> time = parse_time(bound);
    if (!time) return wrong(time.error().text());
    threshold.bound = seconds(*time);
    return threshold;
  }
  std::vector<std::string> names;
  for (const Figure& figure : kFigures) names.emplace_back(figure.name);
  if (std::find(names.begin(), names.end(), threshold.figure) == names.end()) {
    for (const std::string_view one : kPercentiles) names.emplace_back(one);
    return wrong(fmt::format("no figure {}{} (known: {})", config::quote(threshold.figure),
                             config::did_you_mean(threshold.figure, names),
                             config::enumerate(names)));
  }
  char* rest = nullptr;
  threshold.bound = std::strtod(bound.c_str(), &rest);
  if (bound.empty() || *rest != '\0' || !std::isfinite(threshold.bound))
    return wrong(fmt::format("{} is no number", bound.empty() ? "nothing" : bound));
  return threshold;
}

double figure_in(const nlohmann::json& report, std::string_view figure) {
  for (const Figure& known : kFigures) {
    if (figure == known.name) return report.value(nlohmann::json::json_pointer(known.pointer), 0.0);
  }
  std::string_view of;
  std::string_view percentile;
  if (!split(figure, of, percentile)) return 0;
  const std::string key(percentile);
  if (std::find(kSpans.begin(), kSpans.end(), of) != kSpans.end())
    return report.at("latency_seconds").at(std::string(of)).at(key).get<double>();
  const std::size_t dot = of.rfind('.');
  for (const nlohmann::json& block : report.at("blocks")) {
    if (block.at("name") != of.substr(0, dot)) continue;
    for (const nlohmann::json& command : block.at("commands")) {
      if (command.at("name") == of.substr(dot + 1))
        return command.at("seconds").at(key).get<double>();
    }
  }
  return 0;
}

bool is_crossed(const Threshold& threshold, const nlohmann::json& report) {
  const double value = figure_in(report, threshold.figure);
  if (threshold.relation == ">") return value > threshold.bound;
  if (threshold.relation == ">=") return value >= threshold.bound;
  if (threshold.relation == "<") return value < threshold.bound;
  if (threshold.relation == "<=") return value <= threshold.bound;
  const bool equal = std::abs(value - threshold.bound) <= 1e-9 * std::abs(threshold.bound);
  return threshold.relation == "==" ? equal : !equal;
}

}  // namespace poise::loadgen
