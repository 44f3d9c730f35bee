#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace poise::log {

/// What must not be seen raw, apart from control bytes and what is not UTF-8.
enum class Escape : std::uint8_t {
  quoted,  ///< inside "...": quote and backslash
  word,    ///< a bare word of a line: also space, comma, '='
  line,    ///< the text of an event line: nothing more
};

/// Length of the printable UTF-8 sequence at the start of `text`, 0 when it is none. Control
/// characters in any coding are not printable, nor are the line separators U+2028/9, the direction
/// overrides and zero-width characters with which a line could be made to look like another one.
[[nodiscard]] inline std::size_t printable_sequence(std::string_view text) noexcept {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || length > text.size()) return 0;
  unsigned point = first & (0xffu >> (length + 1));
  for (std::size_t at = 1; at < length; ++at) {
    if ((byte(at) & 0xc0u) != 0x80) return 0;
    point = point << 6 | (byte(at) & 0x3fu);
  }
  if (length == 3 && point < 0x800) return 0;
  if (length == 4 && (point < 0x10000 || point > 0x10ffff)) return 0;
  if (point >= 0xd800 && point <= 0xdfff) return 0;
  if (point < 0xa0) return 0;
  if (point == 0x61c || (point >= 0x200b && point <= 0x200f)) return 0;
  if ((point >= 0x2028 && point <= 0x202e) || (point >= 0x2060 && point <= 0x206f)) return 0;
  if (point == 0xfeff || (point >= 0xfff9 && point <= 0xfffb) || point >= 0xe0000) return 0;
  return length;
}

/// Hands `text` to `take` in pieces that are safe to log: printable sequences as they are, all else
/// as \xNN. A cut between two pieces never leaves half a character or half an escape.
template <class Take>
void escape(std::string_view text, Escape mode, Take&& take) {
  static constexpr char kHex[] = "0123456789abcdef";
  while (!text.empty()) {
    std::size_t length = printable_sequence(text);
    const char first = text[0];
    if (mode != Escape::line && (first == '"' || first == '\\')) length = 0;
    if (mode == Escape::word && (first == ' ' || first == ',' || first == '=')) length = 0;
    if (length == 0) {
      const auto byte = static_cast<unsigned char>(first);
      const char coded[4] = {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      take(std::string_view(coded, sizeof coded));
      length = 1;
    } else {
      take(text.substr(0, length));
    }
    text.remove_prefix(length);
  }
}

}  // namespace poise::log
