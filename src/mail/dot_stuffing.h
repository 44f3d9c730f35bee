#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

/// Transparency of message data (RFC 5321 4.5.2, RFC 1939 3): a dot that begins a line is doubled,
/// a lone dot ends the data.
namespace poise::mail {

/// Appends `data` to `out` with dots doubled, without the final dot. `data` begins at a line start
/// and its lines end with CRLF; when the last one has no end, it gets one.
void append_stuffed(std::string_view data, std::string& out);

/// What ends the data after append_stuffed().
inline constexpr std::string_view kFinalDot = ".\r\n";

/// Undoes it, as bytes arrive. Only CRLF "." CRLF ends the data, and only a dot after CRLF is a
/// doubled one: servers that took a bare LF for a line's end have let mail be smuggled.
class DotReader {
 public:
  /// Takes bytes from the front of `bytes`, up to and including the final dot's line. Hands out the
  /// data in pieces: call while the result is `data`; `piece` points into `bytes`' storage or to a
  /// constant.
  enum class Status : std::uint8_t { more, data, end };
  Status next(std::string_view& bytes, std::string_view& piece);

  /// Ready for the next message.
  void reset() { state_ = State::line_start; }

 private:
  enum class State : std::uint8_t {
    line_start,  ///< after CRLF, or at the very beginning
    in_line,
    cr,      ///< after CR within a line; it has been handed out
    dot,     ///< after a dot at a line's start; held back
    dot_cr,  ///< after that dot and a CR; both held back
    ended,
  };
  State state_ = State::line_start;
};

}  // namespace poise::mail
