#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "poise/ids.h"

namespace poise {

/// What one probe saw; in poise_probes_total{outcome}. The server's own words go beside it.
enum class ProbeOutcome : std::uint8_t {
  good,         ///< greeted as it should, and every step asked for succeeded
  busy,         ///< 421 at any step, or a greeting of 4yz: not now, and it is the server
  rejected,     ///< a greeting of 5yz: it does not serve us
  bye,          ///< * BYE, -ERR, BYE or NO instead of a greeting; BYE at any step
  garbage,      ///< not the protocol, or beyond its bounds
  silent,       ///< connected, and no whole greeting in time
  closed,       ///< it ended the connection where an answer was due
  refused,      ///< connection refused
  unreachable,  ///< no route, or another error of connect()
  timeout,      ///< no connection in time, or no answer to a later step in time
  reset,        ///< it reset the connection
  tls_failed,   ///< no handshake, or STARTTLS not offered, refused, or followed by plaintext
  certificate,  ///< TLS works, but the certificate does not pass the verification asked for
  proxy,        ///< it does not take the PROXY header it was sent
  step_failed,  ///< greeted well, but a later step (EHLO, RCPT, LOGIN, ...) was answered with no
  dns,          ///< the backend's name has no address
};

inline constexpr std::array<std::string_view, 16> kProbeOutcomeNames{
    "good",        "busy",    "rejected",    "bye",     "garbage", "silent",
    "closed",      "refused", "unreachable", "timeout", "reset",   "tls_failed",
    "certificate", "proxy",   "step_failed", "dns"};

constexpr std::string_view name_of(ProbeOutcome outcome) {
  return kProbeOutcomeNames[static_cast<std::size_t>(outcome)];
}

/// What rise and fall concluded from outcomes. What the operator asked (draining, disabled) is
/// another thing and never mixed in.
enum class Health : std::uint8_t {
  checking,    ///< no verdict yet
  up,          ///< takes sessions
  recovering,  ///< up again, its share still ramping (slow start)
  down,        ///< takes no new sessions while another is up
};

inline constexpr std::array<std::string_view, 4> kHealthNames{"checking", "up", "recovering",
                                                              "down"};

constexpr std::string_view name_of(Health health) {
  return kHealthNames[static_cast<std::size_t>(health)];
}

/// What the health thread tells control: this backend's health is now so, and why.
struct HealthEvent {
  BackendId backend;
  Health before = Health::checking;
  Health health = Health::checking;
  ProbeOutcome outcome = ProbeOutcome::good;  ///< of the probe that decided
  bool no_new = false;  ///< alive, but says that it is busy: no new sessions while others are up
  std::string reason;   ///< "3 of 3 failed, last: 421 4.3.2 service shutting down"; printable
};

}  // namespace poise
