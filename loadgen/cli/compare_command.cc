#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <memory>
#include <string>

#include "loadgen/cli/command.h"
#include "loadgen/report/compare.h"

namespace poise::loadgen {
namespace {

struct CompareOptions {
  std::string before;
  std::string after;
  double worse_percent = 0;
};

bool read_report(const std::string& path, nlohmann::json& report) {
  std::ifstream file(path);
  report = nlohmann::json::parse(file, nullptr, false);
  if (is_report(report)) return true;
  fmt::print(stderr, "poise-load: {} is no report of `poise-load run --json`\n", path);
  return false;
}

int compare(const CompareOptions& options) {
  nlohmann::json before;
  nlohmann::json after;
  if (!read_report(options.before, before) || !read_report(options.after, after)) return kExitUsage;
  const Comparison comparison = compare_reports(before, after);
  fmt::print("{}", comparison_text(comparison));
  if (options.worse_percent <= 0) return 0;
  bool well = true;
  for (const ComparedFigure& figure : comparison.figures) {
    if (figure.worse_percent() <= options.worse_percent) continue;
    fmt::print(stderr, "poise-load: {} is {:.1f} % worse\n", figure.name, figure.worse_percent());
    well = false;
  }
  return well ? 0 : 1;
}

}  // namespace

void add_compare_command(CLI::App& program, CommandAction& action) {
  auto options = std::make_shared<CompareOptions>();
  CLI::App* command = program.add_subcommand(
      "compare", "Set two reports of `run --json` side by side, with the ratios");
  command->add_option("before", options->before, "The older report")->required()->type_name("FILE");
  command->add_option("after", options->after, "The newer one")->required()->type_name("FILE");
  command
      ->add_option("--fail-if-worse", options->worse_percent,
                   "Exit 1 when a figure is that much worse")
      ->check(CLI::PositiveNumber)
      ->type_name("PERCENT");
  command->callback([options, &action] { action = [options] { return compare(*options); }; });
}

}  // namespace poise::loadgen
