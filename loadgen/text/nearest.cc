#include "loadgen/text/nearest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace poise::loadgen {
namespace {

std::size_t typing_errors(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, changed});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string suggest(std::string_view word, const std::vector<std::string>& candidates) {
  constexpr std::size_t kErrorsMax = 2;
  constexpr std::size_t kWordMax = 64;
  std::size_t best = kErrorsMax + 1;
  std::string_view found;
  for (const std::string& candidate : candidates) {
    if (word.size() > kWordMax) break;
    const std::size_t errors = typing_errors(word, candidate);
    if (errors < best && errors < candidate.size()) {
      best = errors;
      found = candidate;
    }
  }
  if (!found.empty()) return fmt::format("; did you mean \"{}\"?", found);
  return fmt::format("; there are {}", fmt::join(candidates, ", "));
}

}  // namespace poise::loadgen
