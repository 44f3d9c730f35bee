#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace poise::loadgen {

/// What went wrong with a session. Everything up to `service_closing` is a *connection error* in
/// the study's sense: the client didn't get a server, or lost it. What follows are answers of a
/// server that was there.
enum class Failure : std::uint8_t {
  none,
  refused,                 ///< connect: ECONNREFUSED
  unreachable,             ///< connect: no route, network down, and their kin
  connect_timeout,         ///< connect: no answer in time
  reset_before_greeting,   ///< connected, then reset without a greeting
  closed_before_greeting,  ///< connected, then closed without a greeting
  greeting_timeout,        ///< connected, no greeting in time
  greeting_421,            ///< greeted with 421 or another 4yz
  greeting_5yz,            ///< greeted with 5yz
  greeting_bye,            ///< greeted with BYE or -ERR
  greeting_junk,           ///< greeted with something else
  tls_failed,              ///< TLS not offered, its handshake broken off, or its certificate bad
  reset,                   ///< reset after the greeting, before the goodbye
  closed,                  ///< closed after the greeting, before the goodbye
  timeout,                 ///< the session took too long
  service_closing,         ///< 421 or BYE in mid-session
  temporary,               ///< 4yz
  permanent,               ///< 5yz
  denied,                  ///< IMAP NO or BAD, POP3 -ERR
  junk,                    ///< a reply that is none
  local,                   ///< our own side: no port, no file descriptor
};

inline constexpr std::array<std::string_view, 21> kFailureNames{"none",
                                                                "refused",
                                                                "unreachable",
                                                                "connect_timeout",
                                                                "reset_before_greeting",
                                                                "closed_before_greeting",
                                                                "greeting_timeout",
                                                                "greeting_421",
                                                                "greeting_5yz",
                                                                "greeting_bye",
                                                                "greeting_junk",
                                                                "tls_failed",
                                                                "reset",
                                                                "closed",
                                                                "timeout",
                                                                "service_closing",
                                                                "temporary",
                                                                "permanent",
                                                                "denied",
                                                                "junk",
                                                                "local"};

constexpr std::string_view name_of(Failure failure) {
  return kFailureNames[static_cast<std::size_t>(failure)];
}

constexpr bool is_connection_error(Failure failure) {
  return failure >= Failure::refused && failure <= Failure::service_closing;
}

}  // namespace poise::loadgen
