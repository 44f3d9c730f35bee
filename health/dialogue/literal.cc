#include "health/dialogue/literal.h"

#include <strings.h>

#include <algorithm>
#include <charconv>

namespace poise::health {
namespace {

/// The n of a final {n} or {n+}; nothing when the line has none. Absurd ones come back as SIZE_MAX.
bool literal_at_end(std::string_view line, std::size_t& length) {
  if (!line.ends_with('}')) return false;
  const std::size_t open = line.rfind('{');
  if (open == std::string_view::npos) return false;
  std::string_view digits = line.substr(open + 1, line.size() - open - 2);
  if (digits.ends_with('+')) digits.remove_suffix(1);
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, length);
  if (digits.empty() || stop != end) return false;
  if (error != std::errc{}) length = SIZE_MAX;
  return true;
}

}  // namespace

void LiteralDialogue::consume(std::string_view& bytes) {
  const std::size_t skipped = std::min(literal_left_, bytes.size());
  literal_left_ -= skipped;
  bytes.remove_prefix(skipped);
  if (!bytes.empty()) Dialogue::consume(bytes);
}

void LiteralDialogue::on_line(std::string_view line) {
  std::size_t length = 0;
  if (literal_at_end(line, length)) {
    if (length > kMaxReplyBytes || logical_.size() + line.size() > kMaxReplyBytes)
      return garbage(line);
    logical_.append(line);
    continues_ = true;
    literal_left_ = length;
    return;
  }
  if (!continues_) return on_logical_line(line);
  continues_ = false;
  std::string whole;
  whole.swap(logical_);
  whole.append(line);
  on_logical_line(whole);
}

bool begins_with_word(std::string_view line, std::string_view word) {
  if (line.size() < word.size() || strncasecmp(line.data(), word.data(), word.size()) != 0)
    return false;
  return line.size() == word.size() || line[word.size()] == ' ';
}

bool has_word(std::string_view line, std::string_view word) {
  while (!line.empty()) {
    if (begins_with_word(line, word)) return true;
    line.remove_prefix(std::min(line.find(' '), line.size() - 1) + 1);
  }
  return false;
}

}  // namespace poise::health
