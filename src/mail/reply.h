#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "mail/line_reader.h"

namespace poise::mail {

/// One line of an SMTP or LMTP reply (RFC 5321 4.2): three digits, then '-' (more lines follow) or
/// ' ' or nothing.
struct ReplyLine {
  int code = 0;  ///< 200..599
  bool last = false;
  std::string_view text;  ///< after the separator
};

/// False when `line` (without its end) is no reply line.
bool parse_reply_line(std::string_view line, ReplyLine& reply);

/// Joins the lines of one reply. Bounded: a reply that never ends is `malformed` after
/// kMaxReplyLines lines. After `malformed` nothing more can be read.
class ReplyLines {
 public:
  enum class Status : std::uint8_t { more, complete, malformed };

  static constexpr std::size_t kMaxReplyLines = 256;
  static constexpr std::size_t kMaxTextBytes =
      16384;  ///< of text kept; what is beyond is read and dropped

  /// `line` without its end. The next one after `complete` begins a new reply.
  Status add(std::string_view line);

  [[nodiscard]] int code() const { return code_; }
  /// The lines' texts without codes, joined by '\n'. Valid until the next line.
  [[nodiscard]] std::string_view text() const { return text_; }
  /// Some lines of an unfinished reply have been taken.
  [[nodiscard]] bool in_reply() const { return lines_ > 0; }

 private:
  std::string text_;
  int code_ = 0;
  std::size_t lines_ = 0;  ///< of the unfinished reply
  bool malformed_ = false;
};

/// Reads replies from bytes as they arrive; ReplyLines with lines of at most kMaxReplyLineBytes.
class ReplyReader {
 public:
  using Status = ReplyLines::Status;

  // RFC 5321 4.5.3.1.5 allows 512 bytes a line; servers with long policy texts go beyond.
  static constexpr std::size_t kMaxReplyLineBytes = 4096;
  static constexpr std::size_t kMaxReplyLines = ReplyLines::kMaxReplyLines;
  static constexpr std::size_t kMaxTextBytes = ReplyLines::kMaxTextBytes;

  /// Takes bytes from the front of `bytes` up to the end of the reply. The next call after
  /// `complete` begins a new one.
  Status next(std::string_view& bytes);

  [[nodiscard]] int code() const { return lines_.code(); }
  /// The lines' texts without codes, joined by '\n'. Valid until the next call of next().
  [[nodiscard]] std::string_view text() const { return lines_.text(); }
  /// Some bytes of an unfinished reply have been taken.
  [[nodiscard]] bool in_reply() const { return lines_.in_reply() || !reader_.at_line_start(); }

 private:
  LineReader reader_{kMaxReplyLineBytes};
  ReplyLines lines_;
  bool malformed_ = false;
};

/// Whether the text of an EHLO reply names this extension; `arguments`, if given, gets what follows
/// the keyword.
bool ehlo_offers(std::string_view ehlo_text, std::string_view keyword,
                 std::string_view* arguments = nullptr);

}  // namespace poise::mail
