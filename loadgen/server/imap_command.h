#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mail/line_reader.h"

namespace poise::loadgen {

struct ImapToken {
  enum class Kind : std::uint8_t { atom, string, open, close };
  Kind kind = Kind::atom;
  std::string text;  ///< a string without its quotes; an atom with all that its brackets hold:
                     ///< BODY[HEADER.FIELDS (TO)]<0.9>
};

/// Reads IMAP commands (RFC 9051 2.2, 4.3; RFC 7888 for `{n+}`) as bytes arrive. Lines and kept
/// literals are bounded; a literal can be streamed instead of kept, so that an APPEND of any size
/// passes through.
class ImapCommandReader {
 public:
  static constexpr std::size_t kMaxLineBytes = 16384;
  static constexpr std::size_t kMaxKeptBytes = 65536;  ///< of all tokens of a command

  enum class Status : std::uint8_t {
    more,       ///< all bytes taken
    command,    ///< tokens() is complete
    literal,    ///< a literal begins: call keep_literal() or stream_literal(), and say "+ " if it
                ///< waits for that
    piece,      ///< part of a streamed literal
    malformed,  ///< the line (and what led to it) is dropped; tag() may be known
  };
  Status next(std::string_view& bytes, std::string_view& piece);

  /// A line as it is, outside of commands: for SASL responses and DONE. LineReader's rules.
  mail::LineReader::Status next_raw(std::string_view& bytes, std::string_view& line) {
    return lines_.next(bytes, line);
  }

  [[nodiscard]] const std::vector<ImapToken>& tokens() const { return tokens_; }
  /// The first token's text, "*" when there is none.
  [[nodiscard]] std::string_view tag() const;

  [[nodiscard]] std::uint64_t literal_bytes() const { return literal_left_; }
  [[nodiscard]] bool literal_waits() const { return literal_waits_; }
  /// False when it is too big to be kept. The caller refuses it; if the client doesn't wait it must
  /// be streamed all the same.
  bool keep_literal();
  /// Comes in pieces, and leaves an empty string token behind.
  void stream_literal();
  /// Forgets the command begun: a waiting literal was refused.
  void abandon();

 private:
  enum class State : std::uint8_t { line, literal_decision, keeping, streaming };

  bool tokenize(std::string_view line);
  bool add(ImapToken::Kind kind, std::string_view text);

  mail::LineReader lines_{kMaxLineBytes};
  std::vector<ImapToken> tokens_;
  std::size_t kept_ = 0;
  State state_ = State::line;
  bool begun_ = false;  ///< tokens_ holds the beginning of the command being read
  std::uint64_t literal_left_ = 0;
  bool literal_waits_ = false;
};

}  // namespace poise::loadgen
