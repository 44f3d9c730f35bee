#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <map>

#include "loadgen/cli/command.h"
#include "loadgen/client/script.h"

namespace poise::loadgen {

Protocol protocol_option(const std::string& name) {
  const Result<Protocol> parsed = parse_protocol(name);
  if (!parsed) throw CLI::ValidationError("--protocol", parsed.error().what);
  return *parsed;
}

CLI::Validator duration_in_seconds() {
  const std::map<std::string, double> units{{"ms", 0.001}, {"s", 1}, {"m", 60}, {"h", 3600}};
  return CLI::AsNumberWithUnit(units, CLI::AsNumberWithUnit::CASE_SENSITIVE, "TIME");
}

CLI::Validator size_in_bytes() {
  return CLI::AsSizeValue(false);
}

CLI::Validator rate_per_second() {
  return CLI::Validator(
      [](std::string& text) {
        if (text.ends_with("/s")) text.resize(text.size() - 2);
        return std::string();
      },
      "RATE");
}

bool write_result(const std::string& path, const std::string& text) {
  if (path == "-") {
    fmt::print("{}\n", text);
    return true;
  }
  std::ofstream file(path);
  file << text << '\n';
  file.close();
  if (file) return true;
  fmt::print(stderr, "poise-load: cannot write {}\n", path);
  return false;
}

}  // namespace poise::loadgen
