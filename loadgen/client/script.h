#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loadgen/loop/time.h"
#include "poise/protocol.h"
#include "poise/result.h"

namespace poise::loadgen {

enum class Tls : std::uint8_t { none, starttls, implicit };

inline constexpr std::array<std::string_view, 3> kTlsNames{"none", "starttls", "implicit"};

/// One thing a session does between its login and its goodbye.
struct Action {
  enum class Verb : std::uint8_t {
    message,  ///< SMTP: MAIL, RCPT, DATA, the message
    rset,
    select,  ///< IMAP: INBOX
    status,
    search,
    fetch,  ///< a message, whole, the next one each time
    append,
    idle,  ///< for `time`
    stat,
    list,
    uidl,
    retr,
    dele,  ///< the message retrieved last
    noop,
    wait,  ///< for `time`, without a word
  };
  Verb verb;
  Nanos time = 0;

  bool operator==(const Action&) const = default;
};

/// What the sessions of a run, or of a block of a workload, say.
struct Script {
  std::string name;  ///< in reports; the protocol's name when there are no blocks
  Protocol protocol = Protocol::smtp;
  Tls tls = Tls::none;
  std::string tls_name;       ///< SNI, and what the certificate must be for if `tls_verify`
  bool tls_verify = false;    ///< a certificate that does not verify ends the session
  bool connect_only = false;  ///< greeting (and STARTTLS), goodbye
  bool auth = false;          ///< SMTP, ManageSieve: AUTH PLAIN. IMAP and POP3 always log in
  std::string helo = "poise-load.test";
  std::string sender = "sender@poise-load.test";
  std::string recipient = "user@poise-load.test";
  unsigned recipients = 1;  ///< a message; the first is `recipient`, the others are numbered
  bool pipelining = false;  ///< MAIL, RCPT and DATA in one go (RFC 2920)
  std::string user = "user";
  unsigned users = 1;  ///< above 1: `user` with 1 to that number behind it, in turn
  std::string password = "secret";
  std::vector<Action> actions;
};

/// A protocol that sessions can speak; the error names them all, and the nearest.
Result<Protocol> parse_protocol(std::string_view name);

/// Who logs in in session number `session`.
std::string login_name(const Script& script, std::uint64_t session);

/// What a session does when nothing else is asked for: one message sent, or the mailbox opened and
/// one message read.
std::vector<Action> usual_actions(Protocol protocol);

/// A script for this protocol with its usual actions, TLS and authentication.
Script usual_script(Protocol protocol);

/// "select", "fetch*3", "idle=5s", "wait=250ms", "poll=30s*20" (wait and then ask for news, 20
/// times): appended to `actions`. The error names what there is for this protocol.
Result<void> add_action(Protocol protocol, std::string_view text, std::vector<Action>& actions);

/// What cannot work, in words: a fetch with no select before it, a retr with no stat.
Result<void> check_actions(const std::vector<Action>& actions);

}  // namespace poise::loadgen
