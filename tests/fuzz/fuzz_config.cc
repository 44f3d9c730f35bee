// Any bytes as a configuration file: the loader never crashes, says a bounded number of one-line
// things, and what it accepts it prints so that the same comes back.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "config/load.h"
#include "config/print.h"
#include "poise/check.h"

namespace {

void check_lines(const std::vector<poise::config::Problem>& problems) {
  CHECK(problems.size() <= poise::config::kProblemsMax + 1);
  for (const poise::config::Problem& problem : problems) {
    CHECK(problem.text().find('\n') == std::string::npos);
    CHECK(problem.text().size() < 4096);
  }
}

void load(std::string_view text) {
  poise::config::LoadOptions options;
  options.hostname = "mail.example.org";
  options.cpus = 4;
  const poise::config::LoadResult result = poise::config::load_text(text, options);
  check_lines(result.errors);
  check_lines(result.warnings);
  CHECK(result.config.has_value() == result.errors.empty());
  if (!result.config) return;
  const std::string printed = poise::config::print_config(*result.config);
  const poise::config::LoadResult again = poise::config::load_text(printed, options);
  CHECK(again.config.has_value());
  CHECK(*again.config == *result.config);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  load({reinterpret_cast<const char*>(data), size});
  return 0;
}
