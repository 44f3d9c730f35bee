#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

namespace poise::loadgen {

/// One figure of two reports.
struct ComparedFigure {
  std::string name;
  double before = 0;
  double after = 0;
  bool is_time = false;  ///< seconds
  bool higher_is_better = false;

  /// By how much `after` is worse; negative when it is better. From nothing to something is 100 %.
  [[nodiscard]] double worse_percent() const;
};

struct Comparison {
  std::vector<ComparedFigure> figures;
};

/// What report_json() makes, and nothing else.
[[nodiscard]] bool is_report(const nlohmann::json& report);

/// Rates, errors and latencies, and each command that both reports have.
Comparison compare_reports(const nlohmann::json& before, const nlohmann::json& after);

std::string comparison_text(const Comparison& comparison);

}  // namespace poise::loadgen
