#include "loadgen/report/compare.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "loadgen/report/report.h"
#include "loadgen/report/threshold.h"

namespace poise::loadgen {

double ComparedFigure::worse_percent() const {
  const double worse = higher_is_better ? before - after : after - before;
  if (worse == 0) return 0;
  return before != 0 ? 100 * worse / before : 100;
}

bool is_report(const nlohmann::json& report) {
  return report.is_object() && report.contains("submits_per_second") &&
         report.contains("latency_seconds") && report.contains("blocks") &&
         report.contains("sessions") && report.contains("generator");
}

Comparison compare_reports(const nlohmann::json& before, const nlohmann::json& after) {
  Comparison comparison;
  const auto add = [&](const std::string& name, bool is_time, bool higher_is_better) {
    comparison.figures.push_back(
        {name, figure_in(before, name), figure_in(after, name), is_time, higher_is_better});
  };
  add("submits", false, true);
  add("fetches", false, true);
  add("sessions", false, true);
  add("error_percent", false, false);
  add("failed", false, false);
  add("deferrals", false, false);
  add("busy_percent", false, false);
  for (const char* const span : {"connect", "greeting", "session"}) {
    for (const char* const percentile : {"p50", "p90", "p99", "p99.9"})
      add(fmt::format("{}.{}", span, percentile), true, false);
  }
  for (const nlohmann::json& block : before.at("blocks")) {
    for (const nlohmann::json& command : block.at("commands")) {
      const std::string name = fmt::format("{}.{}.p99", block.at("name").get<std::string>(),
                                           command.at("name").get<std::string>());
      if (figure_in(after, name) > 0) add(name, true, false);
    }
  }
  return comparison;
}

std::string comparison_text(const Comparison& comparison) {
  std::string text =
      fmt::format("{:<32} {:>12} {:>12} {:>8}\n", "figure", "before", "after", "ratio");
  const auto value = [](const ComparedFigure& figure, double number) {
    return figure.is_time ? duration_text(nanos(number)) : fmt::format("{:.2f}", number);
  };
  for (const ComparedFigure& figure : comparison.figures) {
    text +=
        fmt::format("{:<32} {:>12} {:>12} {:>8}\n", figure.name, value(figure, figure.before),
                    value(figure, figure.after),
                    figure.before != 0 ? fmt::format("{:.2f}", figure.after / figure.before) : "-");
  }
  return text;
}

}  // namespace poise::loadgen
