#include "log/json_line.h"

#include <algorithm>
#include <array>

namespace poise::log {
namespace {

/// The words of a session line whose values are numbers.
constexpr std::array<std::string_view, 8> kNumbers{
    "id", "queue_s", "connect_s", "greeting_s", "total_s", "to_client", "to_backend", "early"};

/// `text` is printable UTF-8 already.
void append_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char each : text) {
    if (each == '"' || each == '\\') out += '\\';
    out += each;
  }
  out += '"';
}

void append_member(std::string& out, std::string_view key, std::string_view value) {
  out += ',';
  append_string(out, key);
  out += ':';
  append_string(out, value);
}

/// The next word; blanks inside quotes do not end it.
std::string_view take_word(std::string_view& text) {
  bool quoted = false;
  std::size_t end = 0;
  for (; end < text.size() && (quoted || text[end] != ' '); ++end)
    if (text[end] == '"') quoted = !quoted;
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return word;
}

/// As JSON has it: 0, 12, 0.25.
bool is_number(std::string_view text) {
  const auto digits = [](std::string_view part) {
    return !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
  };
  const std::size_t point = std::min(text.find('.'), text.size());
  const std::string_view whole = text.substr(0, point);
  if (!digits(whole) || (whole.size() > 1 && whole[0] == '0')) return false;
  return point == text.size() || digits(text.substr(point + 1));
}

}  // namespace

LineParts parts_of(std::string_view line) {
  const std::size_t time = line.find(' ');
  if (time == std::string_view::npos) return {.time = {}, .level = {}, .words = line};
  const std::size_t level = line.find(' ', time + 1);
  if (level == std::string_view::npos) return {.time = {}, .level = {}, .words = line};
  return {.time = line.substr(0, time),
          .level = line.substr(time + 1, level - time - 1),
          .words = line.substr(level + 1)};
}

void append_json(std::string& out, std::string_view line) {
  LineParts parts = parts_of(line);
  out += "{\"time\":";
  append_string(out, parts.time);
  append_member(out, "level", parts.level);
  if (parts.words.starts_with("session ") || parts.words.starts_with("session_start ")) {
    append_member(out, "event", take_word(parts.words));
    while (!parts.words.empty()) {
      const std::string_view word = take_word(parts.words);
      const std::size_t equals = std::min(word.find('='), word.size());
      const std::string_view key = word.substr(0, equals);
      const std::string_view value = word.substr(std::min(equals + 1, word.size()));
      if (std::find(kNumbers.begin(), kNumbers.end(), key) == kNumbers.end() || !is_number(value)) {
        append_member(out, key, value);
        continue;
      }
      out += ',';
      append_string(out, key);
      out += ':';
      out += value;
    }
  } else {
    append_member(out, "message", parts.words);
  }
  out += "}\n";
}

}  // namespace poise::log
