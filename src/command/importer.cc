#include "command/importer.h"

#include <fmt/format.h>

#include <algorithm>

namespace poise {

void Importer::leave(unsigned line, const std::vector<std::string>& words, std::string_view why) {
  leave(line, fmt::format("{}: {}", fmt::join(words, " "), why));
}

void Importer::stick_to_source(Draft::Pool& pool) {
  pool.keys.set_in("sticky", "by", "\"source\"");
  pool.keys.set_in("sticky", "prefix_v4", "32");
  pool.keys.set_in("sticky", "prefix_v6", "128");
}

Result<Imported> Importer::finish(std::string_view nothing) {
  if (draft_.services.empty()) return Error{std::string(file_), std::string(nothing)};
  std::stable_sort(left_.begin(), left_.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  Imported out{.draft = std::move(draft_), .left_out = {}};
  for (const auto& [line, what] : left_)
    out.left_out.push_back(fmt::format("{}:{}: {}", file_, line, what));
  return out;
}

}  // namespace poise
