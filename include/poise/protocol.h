#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace poise {

/// What a service speaks; decides defaults, probes, greetings and refusal texts.
enum class Protocol : std::uint8_t {
  smtp,
  submission,
  smtps,
  lmtp,
  imap,
  imaps,
  pop3,
  pop3s,
  managesieve,
  tcp
};

inline constexpr std::array<std::string_view, 10> kProtocolNames{
    "smtp", "submission", "smtps", "lmtp", "imap", "imaps", "pop3", "pop3s", "managesieve", "tcp"};

constexpr std::string_view name_of(Protocol protocol) {
  return kProtocolNames[static_cast<std::size_t>(protocol)];
}

/// TLS starts with the first byte, so the client speaks first.
constexpr bool is_implicit_tls(Protocol protocol) {
  return protocol == Protocol::smtps || protocol == Protocol::imaps || protocol == Protocol::pop3s;
}

/// The server greets before the client may say anything.
constexpr bool server_speaks_first(Protocol protocol) {
  return protocol != Protocol::tcp && !is_implicit_tls(protocol);
}

}  // namespace poise
