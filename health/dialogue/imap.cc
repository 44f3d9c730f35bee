#include "health/dialogue/imap.h"

#include <fmt/format.h>

namespace poise::health {
namespace {

/// A quoted string (RFC 9051 4.3); line ends and NUL have been refused before.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out + '"';
}

/// A refusal that says nothing about the credentials (RFC 5530).
bool is_temporary(std::string_view words) {
  for (const std::string_view code : {"[UNAVAILABLE]", "[INUSE]", "[SERVERBUG]", "[LIMIT]"})
    if (has_word(words, code)) return true;
  return false;
}

}  // namespace

void ImapDialogue::on_logical_line(std::string_view line) {
  if (state_ == State::greeting) return judge_greeting(line);
  if (line.starts_with("* ")) {
    const std::string_view words = line.substr(2);
    if (begins_with_word(words, "BYE") && state_ != State::logout)
      return fail(ProbeOutcome::bye, line, false);
    if (begins_with_word(words, "CAPABILITY")) capabilities_ = words.substr(0, kMaxLineBytes);
    return;
  }
  if (line.starts_with('+')) {
    if (!secret_awaited_) return garbage(line);
    secret_awaited_ = false;
    const DeepSteps& steps = request_.steps;
    return send("login",
                base64(std::string(1, '\0') + steps.login_user + std::string(1, '\0') +
                       steps.login_password),
                "****");
  }
  if (begins_with_word(line, tag_) && line.size() > tag_.size())
    return on_tagged(line.substr(tag_.size() + 1), line);
  // A header taken for a command is answered under its own "tag": PROXY BAD ...
  if (answers_header()) return fail(ProbeOutcome::proxy, line, false);
  garbage(line);
}

void ImapDialogue::judge_greeting(std::string_view line) {
  const std::string_view words = line.starts_with("* ") ? line.substr(2) : std::string_view{};
  preauth_ = begins_with_word(words, "PREAUTH");
  if (preauth_ || begins_with_word(words, "OK")) return greeting_is_good(line);
  if (begins_with_word(words, "BYE")) return fail(ProbeOutcome::bye, line, false);
  garbage(line);
}

void ImapDialogue::command(State state, std::string_view step, std::string_view words,
                           std::string_view shown) {
  state_ = state;
  tag_ = fmt::format("a{}", ++commands_);
  send(step, fmt::format("{} {}", tag_, words),
       shown.empty() ? std::string{} : fmt::format("{} {}", tag_, shown));
}

void ImapDialogue::after_greeting() {
  if (request_.deep || request_.tls == config::ProbeTls::starttls) return ask_capabilities();
  log_out();
}

void ImapDialogue::ask_capabilities() {
  capabilities_.clear();
  command(State::capability, "capability", "CAPABILITY");
}

void ImapDialogue::on_tagged(std::string_view words, std::string_view line) {
  const bool yes = begins_with_word(words, "OK");
  const bool no = begins_with_word(words, "NO") || begins_with_word(words, "BAD");
  if (!yes && !no) return garbage(line);
  if (state_ == State::logout) return left(yes, line);
  header_was_taken();
  switch (state_) {
    case State::capability:
      return yes ? after_capabilities() : fail(ProbeOutcome::step_failed, line);
    case State::starttls:
      return yes ? start_tls() : fail(ProbeOutcome::tls_failed, line);
    case State::login:
      if (yes) return after_login();
      verdict_.auth_failed = begins_with_word(words, "NO") && !is_temporary(words);
      return fail(ProbeOutcome::step_failed, line);
    case State::noop:
      return yes ? log_out() : fail(ProbeOutcome::step_failed, line);
    case State::greeting:
    case State::logout:
      break;
  }
}

void ImapDialogue::after_capabilities() {
  if (request_.tls == config::ProbeTls::starttls && !tls_active()) {
    step_ = "starttls";
    if (preauth_) return fail(ProbeOutcome::tls_failed, "[PREAUTH: there is no STARTTLS after it]");
    if (!has_word(capabilities_, "STARTTLS"))
      return fail(ProbeOutcome::tls_failed, "[STARTTLS is not offered]");
    return command(State::starttls, "starttls", "STARTTLS");
  }
  if (request_.deep && !request_.steps.login_user.empty() && !preauth_) return log_in();
  after_login();
}

void ImapDialogue::on_tls() {
  ask_capabilities();  // RFC 9051 6.2.1: those from before are void
}

void ImapDialogue::log_in() {
  if (!may_log_in()) return;
  step_ = "login";
  const DeepSteps& steps = request_.steps;
  if (has_word(capabilities_, "AUTH=PLAIN")) {
    const bool at_once = has_word(capabilities_, "SASL-IR");
    secret_awaited_ = !at_once;
    if (!at_once) return command(State::login, "login", "AUTHENTICATE PLAIN");
    const std::string secret = base64(std::string(1, '\0') + steps.login_user +
                                      std::string(1, '\0') + steps.login_password);
    return command(State::login, "login", "AUTHENTICATE PLAIN " + secret,
                   "AUTHENTICATE PLAIN ****");
  }
  if (has_word(capabilities_, "LOGINDISABLED"))
    return fail(ProbeOutcome::step_failed, "[LOGINDISABLED, and AUTH=PLAIN is not offered]");
  command(State::login, "login",
          fmt::format("LOGIN {} {}", quoted(steps.login_user), quoted(steps.login_password)),
          "LOGIN **** ****");
}

void ImapDialogue::after_login() {
  if (!request_.deep) return log_out();
  command(State::noop, "noop", "NOOP");
}

void ImapDialogue::log_out() {
  state_ = State::logout;
  tag_ = goodbye().substr(0, goodbye().find(' '));
  leave();
}

}  // namespace poise::health
