#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace poise {

/// Why a session ended; in its log line and in poise_sessions_total{close_reason}.
enum class CloseReason : std::uint8_t {
  client_closed,        ///< the client's FIN came first, both directions ended in order
  backend_closed,       ///< the backend's FIN came first, both directions ended in order
  client_reset,         ///< the client reset
  backend_reset,        ///< the backend reset; passed on
  idle_timeout,         ///< silent both ways, the server spoke last
  owed_timeout,         ///< silent both ways, the server owed an answer
  half_closed_timeout,  ///< one side had finished, the other went silent
  client_gone,          ///< the client left before a backend had been found
  refused,              ///< no backend could serve it
  drained,              ///< let go by a drain
  kicked,               ///< ended by the operator
  backend_down,         ///< let go because its backend was declared down
  shutdown,             ///< still open when the process had to stop
  resources,            ///< out of fds, memory or ports
};

inline constexpr std::array<std::string_view, 14> kCloseReasonNames{
    "client_closed", "backend_closed",      "client_reset", "backend_reset", "idle_timeout",
    "owed_timeout",  "half_closed_timeout", "client_gone",  "refused",       "drained",
    "kicked",        "backend_down",        "shutdown",     "resources"};

constexpr std::string_view name_of(CloseReason reason) {
  return kCloseReasonNames[static_cast<std::size_t>(reason)];
}

/// What came of one try at a backend; all but `ok` are retry reasons (poise_retries_total{reason}).
enum class TryOutcome : std::uint8_t {
  ok,
  refused,      ///< connect: ECONNREFUSED
  unreachable,  ///< connect: no route, network down, ICMP error
  timeout,      ///< connect: no answer within timeouts.connect
  reset,        ///< reset before the greeting was judged
  closed,       ///< EOF before the greeting was judged
  silent,       ///< connected, no greeting in time
  busy,         ///< 421, 4yz, BYE that means "not now"
  rejected,     ///< 5yz and its like where retry_5xx is set
  garbage,      ///< not a greeting of that protocol
  local,        ///< our own side: no port, no fd, no buffer
};

inline constexpr std::array<std::string_view, 11> kTryOutcomeNames{
    "ok",     "refused", "unreachable", "timeout", "reset", "closed",
    "silent", "busy",    "rejected",    "garbage", "local"};

constexpr std::string_view name_of(TryOutcome outcome) {
  return kTryOutcomeNames[static_cast<std::size_t>(outcome)];
}

/// Classes of greetings, named as poise_greetings_total{class} has them. `none` (no greeting came
/// at all) is for those who wait.
enum class GreetingClass : std::uint8_t {
  good,  ///< 220, * OK, * PREAUTH, +OK, a ManageSieve capability or OK; on TLS ports a handshake or
         ///< an alert
  temporary,   ///< 4yz: not now, and it is the server
  permanent,   ///< 5yz: a verdict on the client
  policy_421,  ///< 421 4.7.x: a verdict on the address it sees, ours or the client's
  bye,         ///< * BYE, -ERR, BYE, NO: not now, and it is the server
  junk,        ///< not a greeting of that protocol
  none,        ///< nothing came
};

inline constexpr std::array<std::string_view, 7> kGreetingClassNames{
    "good", "4yz", "5yz", "421_policy", "bye", "junk", "none"};

constexpr std::string_view name_of(GreetingClass kind) {
  return kGreetingClassNames[static_cast<std::size_t>(kind)];
}

/// Why nobody served a client; poise_refusals_total{reason}.
enum class RefusalReason : std::uint8_t {
  no_backend,
  all_failed,
  queue_full,
  queue_timeout,
  denied,
  banned,
  sessions,
  source_sessions,
  source_rate,
  early_talker,
  proxy_header,
  shutting_down,
  resources,
  bare,
};

inline constexpr std::array<std::string_view, 14> kRefusalReasonNames{
    "no_backend",   "all_failed",    "queue_full",      "queue_timeout", "denied",
    "banned",       "sessions",      "source_sessions", "source_rate",   "early_talker",
    "proxy_header", "shutting_down", "resources",       "bare"};

constexpr std::string_view name_of(RefusalReason reason) {
  return kRefusalReasonNames[static_cast<std::size_t>(reason)];
}

}  // namespace poise
