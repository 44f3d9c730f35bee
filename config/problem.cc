#include "config/problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace poise::config {

std::string Problem::text() const {
  std::string place = file;
  if (line != 0) place += fmt::format(":{}:{}", line, column);
  if (!pointer.empty()) place += ": " + pointer;
  return place + ": " + message;
}

Problems::Problems(std::string_view text, std::string file)
    : text_(text), file_(std::move(file)), lines_{0} {
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string_view::npos;)
    lines_.push_back(++at);
}

void Problems::error(std::size_t offset, std::string_view pointer, std::string message) {
  add(errors_, offset, pointer, std::move(message));
}

void Problems::warn(std::size_t offset, std::string_view pointer, std::string message) {
  add(warnings_, offset, pointer, std::move(message));
}

void Problems::add(List& list, std::size_t offset, std::string_view pointer, std::string message) {
  ++list.count;
  if (list.found.size() < kProblemsMax)
    list.found.push_back({offset, std::string(pointer), std::move(message)});
}

std::size_t Problems::line_of(std::size_t offset) const {
  return static_cast<std::size_t>(std::upper_bound(lines_.begin(), lines_.end(), offset) -
                                  lines_.begin());
}

std::vector<Problem> Problems::finish(const List& list, const char* kind) const {
  std::vector<Found> found = list.found;
  std::stable_sort(found.begin(), found.end(),
                   [](const Found& a, const Found& b) { return a.offset < b.offset; });
  std::vector<Problem> problems;
  for (Found& one : found) {
    const std::size_t line = line_of(one.offset);
    const std::string_view before = text_.substr(lines_[line - 1], one.offset - lines_[line - 1]);
    // UTF-8: a character is one byte that is not a continuation.
    const auto characters = std::count_if(before.begin(), before.end(), [](char c) {
      return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u;
    });
    problems.push_back({file_, line, static_cast<std::size_t>(characters) + 1,
                        std::move(one.pointer), std::move(one.message)});
  }
  if (list.count > found.size()) {
    problems.push_back(
        {file_, 0, 0, "", fmt::format("and {} more {}", list.count - found.size(), kind)});
  }
  return problems;
}

}  // namespace poise::config
