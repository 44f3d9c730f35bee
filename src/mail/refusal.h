#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "poise/config.h"
#include "poise/protocol.h"
#include "poise/reasons.h"

/// What a client is told when nobody serves it, in its own protocol, so that it comes back later
/// (or, when it is not welcome, does not). Pure; writes into the caller's memory and allocates
/// nothing.
namespace poise::mail {

/// RFC 5321 4.5.3.1.5: a reply line, CRLF included.
inline constexpr std::size_t kRefusalBytesMax = 512;

/// What does not change from one client of a service to the next. The memory is the caller's.
struct RefusalStyle {
  Protocol protocol = Protocol::tcp;
  config::DenyReply deny_reply = config::DenyReply::reply_554;
  std::string_view hostname;  ///< ours, after an SMTP code; empty: left out

  /// The operator's words in place of ours for whatever is temporary; empty: ours. Made one line
  /// of printable ASCII, and cut where the line would be too long.
  std::string_view text;
};

/// Writes the refusal to the front of `out`, which has room for kRefusalBytesMax; returns its
/// length. 0: the connection is closed without a word (tcp, RefusalReason::bare, denied with
/// "drop").
///
/// Temporary for whatever the client may try again (421 4.3.2, [UNAVAILABLE], [SYS/TEMP],
/// TRYLATER; a source over its limit 421 4.7.0); permanent for denied and banned networks unless
/// deny_reply says 421, and for early talkers. On TLS ports a fatal alert, internal_error.
std::size_t write_refusal(std::span<char> out, const RefusalStyle& style, RefusalReason reason);

/// After a 554 in place of a greeting the client still says QUIT, and must be answered (RFC 5321
/// 3.1): true if a DeniedDialogue follows this refusal. Else nothing the client says matters.
[[nodiscard]] bool refusal_awaits_quit(const RefusalStyle& style, RefusalReason reason);

/// Answers whoever was told 554: 221 to QUIT, 503 to anything else, 421 to what comes after
/// kCommandsMax of those. Three bytes, to sit in a session's slot; how long a client may take
/// is the caller's business.
class DeniedDialogue {
 public:
  static constexpr std::uint8_t kCommandsMax = 10;
  static constexpr std::size_t kReplyBytesMax = 1024;  ///< all that it ever says, together

  /// Takes what the client sent, in any pieces, and writes the answers to the front of `out`, which
  /// has room for kReplyBytesMax; returns their length.
  std::size_t take(std::string_view bytes, std::span<char> out, std::string_view hostname);

  /// The last answer has been given: send it, then FIN. What else comes is thrown away.
  [[nodiscard]] bool finished() const { return finished_; }

 private:
  bool quits_after(char next);

  std::uint8_t commands_ = 0;
  std::uint8_t matched_ = 0;  ///< of the line under way: letters of QUIT; kOther: it is none
  bool finished_ = false;
};
static_assert(sizeof(DeniedDialogue) == 3);

}  // namespace poise::mail
