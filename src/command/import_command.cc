#include "command/import_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <vector>

#include "command/balance_line.h"
#include "command/import_alteon.h"
#include "command/import_haproxy.h"
#include "config/load.h"

namespace poise {
namespace {

constexpr int kUnreadable = 1, kWrong = 2;
constexpr std::size_t kFileBytesMax = 16 << 20;

Result<std::string> contents(const std::string& path) {
  std::ifstream file;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file) return Error{path, "cannot be read"};
  }
  std::istream& in = path == "-" ? std::cin : file;
  std::string text;
  std::vector<char> block(1 << 16);
  while (in.read(block.data(), static_cast<std::streamsize>(block.size())) || in.gcount() > 0) {
    text.append(block.data(), static_cast<std::size_t>(in.gcount()));
    if (text.size() > kFileBytesMax) return Error{path, "is too large to be a configuration"};
  }
  if (in.bad()) return Error{path, "cannot be read"};
  return text;
}

/// As a shell would part it, but for quotes, which no address needs.
Result<Imported> import_balance(const std::string& command_line) {
  std::istringstream in(command_line);
  std::vector<std::string> words{std::istream_iterator<std::string>(in), {}};
  const auto is_program = [](const std::string& word) {
    return word == "balance" || word.ends_with("/balance") || word.ends_with("poise-balance");
  };
  if (!words.empty() && is_program(words.front())) words.erase(words.begin());
  const auto line = parse_balance_line(words);
  if (!line) return line.error();
  if (line->task != BalanceLine::Task::serve)
    return Error{command_line, "is a command to a balance that runs, and serves nothing"};
  return Imported{.draft = line->draft(), .left_out = line->notes};
}

}  // namespace

int run_import_command(const std::string& from, const std::string& what) {
  const auto fail = [](const Error& error, int code) {
    fmt::print(stderr, "poised: --import: {}\n", error.text());
    return code;
  };
  Result<Imported> imported = Error{from, "is not one of: balance, haproxy, alteon"};
  if (from == "balance") {
    imported = import_balance(what);
  } else if (from == "haproxy" || from == "alteon") {
    const auto text = contents(what);
    if (!text) return fail(text.error(), kUnreadable);
    imported = from == "haproxy" ? import_haproxy(*text, what) : import_alteon(*text, what);
  }
  if (!imported) return fail(imported.error(), kWrong);
  const std::string config = imported->draft.text();
  fmt::print("{}", config);
  for (const std::string& each : imported->left_out)
    fmt::print(stderr, "not carried over: {}\n", each);
  config::LoadOptions options;
  options.file = "the result";
  const config::LoadResult loaded = config::load_text(config, options);
  for (const config::Problem& each : loaded.warnings)
    fmt::print(stderr, "warning: {}\n", each.text());
  for (const config::Problem& each : loaded.errors) fmt::print(stderr, "error: {}\n", each.text());
  return loaded.config ? 0 : kWrong;
}

}  // namespace poise
