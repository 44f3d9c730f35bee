#pragma once

#include <array>
#include <cstdint>
#include <optional>
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

constexpr std::optional<Protocol> protocol_named(std::string_view name) {
  for (std::size_t i = 0; i < kProtocolNames.size(); ++i)
    if (kProtocolNames[i] == name) return static_cast<Protocol>(i);
  return std::nullopt;
}

/// TLS starts with the first byte, so the client speaks first.
constexpr bool is_implicit_tls(Protocol protocol) {
  return protocol == Protocol::smtps || protocol == Protocol::imaps || protocol == Protocol::pop3s;
}

/// What is spoken once TLS, if there is any, stands.
enum class Language : std::uint8_t { smtp, imap, pop3, managesieve, unknown };

constexpr Language language_of(Protocol protocol) {
  switch (protocol) {
    case Protocol::smtp:
    case Protocol::submission:
    case Protocol::smtps:
    case Protocol::lmtp:
      return Language::smtp;
    case Protocol::imap:
    case Protocol::imaps:
      return Language::imap;
    case Protocol::pop3:
    case Protocol::pop3s:
      return Language::pop3;
    case Protocol::managesieve:
      return Language::managesieve;
    case Protocol::tcp:
      break;
  }
  return Language::unknown;
}

constexpr bool is_smtp(Protocol protocol) {
  return language_of(protocol) == Language::smtp;
}

/// From users, who log in, with TLS from the first byte or not.
constexpr bool is_submission(Protocol protocol) {
  return protocol == Protocol::submission || protocol == Protocol::smtps;
}

/// The server greets before the client may say anything.
constexpr bool server_speaks_first(Protocol protocol) {
  return protocol != Protocol::tcp && !is_implicit_tls(protocol);
}

}  // namespace poise
