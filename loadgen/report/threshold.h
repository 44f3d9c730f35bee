#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <string_view>
#include <vector>

#include "poise/result.h"

namespace poise::loadgen {

/// A figure of a report with its bound: "errors>0", "submits<40", "p99>200ms",
/// "smtp.message.p99.9>1s". The run is bad when it holds.
struct Threshold {
  std::string text;
  std::string figure;
  std::string relation;  ///< > >= < <= == !=
  double bound = 0;      ///< times in seconds
};

/// `blocks`: the names of the workload's blocks. The error lists the figures there are.
Result<Threshold> parse_threshold(std::string_view text, const std::vector<std::string>& blocks);

/// The figure in a report made by report_json(); 0 for a command that was never asked.
double figure_in(const nlohmann::json& report, std::string_view figure);

[[nodiscard]] bool is_crossed(const Threshold& threshold, const nlohmann::json& report);

}  // namespace poise::loadgen
