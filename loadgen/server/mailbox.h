#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace poise::loadgen {

/// The messages that every IMAP and POP3 user of a server has: made once from a seed, the same in
/// each run, no two alike, with leading dots, long lines and 8-bit text among them. Immutable;
/// sessions keep flags and deletions to themselves.
class Mailbox {
 public:
  struct Message {
    std::string text;          ///< header, blank line, body; CRLF line ends
    std::string stuffed;       ///< for POP3: dots doubled, final dot included
    std::size_t header_bytes;  ///< of `text`, blank line included
    std::uint32_t uid;
    std::string subject;
    std::string message_id;  ///< with angle brackets
  };

  /// `message_bytes` is the size of each message (at least a header's worth).
  Mailbox(std::size_t count, std::size_t message_bytes);

  [[nodiscard]] const std::vector<Message>& messages() const { return messages_; }
  /// All of a mailbox's messages have this date: RFC 5322 and IMAP's internal form.
  static constexpr std::string_view kDate = "Thu, 01 Jan 2026 12:00:00 +0000";
  static constexpr std::string_view kInternalDate = "01-Jan-2026 12:00:00 +0000";
  static constexpr std::uint32_t kUidValidity = 1;

  /// What a mailbox would cost in memory, for a check beforehand.
  static std::uint64_t cost(std::uint64_t count, std::uint64_t message_bytes) {
    return count * message_bytes * 2;
  }

 private:
  std::vector<Message> messages_;
};

}  // namespace poise::loadgen
