#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace poise::loadgen {

/// What is timed: from when it is asked to the last line of its answer. `connect` is timed from
/// when the session should have begun, `greeting` from the connection (or the end of an implicit
/// TLS handshake), `data` to the 354, `message` from the first byte after it to the reply to the
/// final dot, `idle` to the server's continuation and `done` from there to the end.
enum class Command : std::uint8_t {
  connect,
  tls,
  greeting,
  hello,
  starttls,
  auth,
  mail,
  rcpt,
  data,
  message,
  rset,
  login,
  select,
  status,
  search,
  fetch,
  append,
  idle,
  done,
  user,
  pass,
  stat,
  list,
  uidl,
  retr,
  dele,
  noop,
  quit,
};

inline constexpr std::array<std::string_view, 28> kCommandNames{
    "connect", "tls",   "greeting", "hello", "starttls", "auth",   "mail",
    "rcpt",    "data",  "message",  "rset",  "login",    "select", "status",
    "search",  "fetch", "append",   "idle",  "done",     "user",   "pass",
    "stat",    "list",  "uidl",     "retr",  "dele",     "noop",   "quit"};

constexpr std::string_view name_of(Command command) {
  return kCommandNames[static_cast<std::size_t>(command)];
}

}  // namespace poise::loadgen
