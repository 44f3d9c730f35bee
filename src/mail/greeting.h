#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "poise/protocol.h"
#include "poise/reasons.h"

/// What a server's first words mean. Pure; the gate, the probes and poise-load judge alike.
namespace poise::mail {

using poise::GreetingClass;

/// What the gate does about a greeting (DESIGN section 3).
enum class Verdict : std::uint8_t {
  relay,          ///< let it flow
  try_another,    ///< not now, and it is the server
  pass_to_client  ///< a verdict on the client: hand it on unchanged, ask nobody else
};

/// `sees_client`: the backend sees the client's own address (PROXY header, transparent), so a
/// 421 4.7.x is about the client; otherwise it is about us. `retry_5xx`: the pool never judges
/// clients.
constexpr Verdict verdict_of(GreetingClass kind, bool sees_client, bool retry_5xx) {
  switch (kind) {
    case GreetingClass::good:
      return Verdict::relay;
    case GreetingClass::permanent:
      return retry_5xx ? Verdict::try_another : Verdict::pass_to_client;
    case GreetingClass::policy_421:
      return sees_client ? Verdict::pass_to_client : Verdict::try_another;
    case GreetingClass::temporary:
    case GreetingClass::bye:
    case GreetingClass::junk:
    case GreetingClass::none:
      break;
  }
  return Verdict::try_another;
}

/// A greeting line longer than this is junk. Dovecot and Cyrus put capabilities into theirs, hence
/// not RFC 5321's 512.
inline constexpr std::size_t kMaxGreetingLineBytes = 8192;

/// The server's first complete line, without its end. The line of an SMTP reply decides alone, be
/// it `220-` or `220 `: all lines of a reply carry one code. For tcp everything is good; TLS
/// protocols are judged by first byte, not here.
GreetingClass classify_greeting(Protocol protocol, std::string_view line);

/// What can be said of the first bytes a server sent.
struct GreetingScan {
  bool decided = false;
  GreetingClass kind = GreetingClass::none;
  std::string_view
      line;  ///< the first line without its end; empty when junk was seen before any end
};

/// Judges as soon as it can: at the first LF, or earlier when the bytes can no longer become a
/// greeting (a TLS alert on a plain port, a web server: no need to wait out the greeting timeout)
/// or exceed kMaxGreetingLineBytes. `received` is everything so far; call again with more bytes
/// while not decided. For tcp decided at once.
GreetingScan scan_greeting(Protocol protocol, std::string_view received);

/// The name by which a server greets: `220 mx1.example ESMTP`, `* OK [CAPABILITY ...] mx1 ready`,
/// `+OK mx1 ready`. The first word that is not protocol; empty when there is none. For reports
/// only: servers may say what they like here.
std::string_view greeting_name(Protocol protocol, std::string_view line);

}  // namespace poise::mail
