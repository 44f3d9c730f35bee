#pragma once

#include <string>
#include <string_view>

namespace poise::log {

/// The parts of a text line "2026-11-21T18:50:17.123Z info WORDS", without its newline. All empty
/// but `words` when it has another form.
struct LineParts {
  std::string_view time, level, words;
};
[[nodiscard]] LineParts parts_of(std::string_view line);

/// Appends the line as one JSON object and a newline: {"time", "level", "event", ...}. Session
/// lines have a member for each word, numbers where they are numbers; others have "message". Bytes
/// that the text shows as \xNN stay shown that way. Log thread; allocates only in `out`.
void append_json(std::string& out, std::string_view line);

}  // namespace poise::log
