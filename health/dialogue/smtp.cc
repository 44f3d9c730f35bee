#include "health/dialogue/smtp.h"

#include <fmt/format.h>

#include <string>

namespace poise::health {

SmtpDialogue::SmtpDialogue(const ProbeRequest& request)
    : Dialogue(request), lmtp_(request.type == config::ProbeType::lmtp) {}

Protocol SmtpDialogue::protocol() const {
  return lmtp_ ? Protocol::lmtp : Protocol::smtp;
}

std::string SmtpDialogue::words() const {
  return fmt::format("{} {}", reply_.code(), reply_.text());
}

void SmtpDialogue::on_line(std::string_view line) {
  switch (reply_.add(line)) {
    case mail::ReplyLines::Status::more:
      return;
    case mail::ReplyLines::Status::malformed:
      return garbage(line);
    case mail::ReplyLines::Status::complete:
      return on_reply();
  }
}

void SmtpDialogue::on_reply() {
  const int code = reply_.code();
  if (state_ == State::greeting) return judge_greeting();
  // A server that does not know the header takes it for a command: it greets, and its next reply is
  // about the header.
  if (answers_header() && code >= 500) return fail(ProbeOutcome::proxy, words(), false);
  if (state_ == State::quit) return left(code / 100 == 2, words());
  header_was_taken();
  // The one code a server may give at any time (RFC 5321 3.8); it closes by itself.
  if (code == 421) return fail(ProbeOutcome::busy, words(), false);
  const bool yes = code / 100 == 2;
  switch (state_) {
    case State::ehlo:
      if (yes) return after_hello();
      // RFC 5321 3.2: a server of the old kind rejects EHLO and takes HELO.
      if (lmtp_ || code < 500) return refused();
      state_ = State::helo;
      return send("helo", fmt::format("HELO {}", request_.hostname));
    case State::helo:
      return yes ? after_hello() : refused();
    case State::starttls:
      return code == 220 ? start_tls() : fail(ProbeOutcome::tls_failed, words());
    case State::auth:
      if (yes) return after_auth();
      verdict_.auth_failed = code >= 500;
      return refused();
    case State::mail:
      if (!yes) return refused();
      state_ = State::rcpt;
      return send("rcpt", fmt::format("RCPT TO:<{}>", request_.steps.rcpt));
    case State::rcpt:
      verdict_.rcpt_code = code;
      if (code / 100 != 2 && code / 100 != 4) return refused();
      verdict_.words = printable(words());
      state_ = State::rset;
      return send("rset", "RSET");
    case State::rset:
      return finish_politely();
    case State::greeting:
    case State::quit:
      break;
  }
}

void SmtpDialogue::judge_greeting() {
  const int code = reply_.code();
  if (code == 220) return greeting_is_good(words());
  if (code == 421) return fail(ProbeOutcome::busy, words(), false);
  if (code / 100 == 4) return fail(ProbeOutcome::busy, words());
  // RFC 5321 3.1: after 554 the server waits for QUIT.
  if (code / 100 == 5) return fail(ProbeOutcome::rejected, words());
  garbage(words());
}

bool SmtpDialogue::wants_hello() const {
  const DeepSteps& steps = request_.steps;
  return request_.tls == config::ProbeTls::starttls ||
         (request_.deep && (steps.ehlo || !steps.rcpt.empty() || !steps.login_user.empty()));
}

void SmtpDialogue::after_greeting() {
  if (wants_hello()) return say_hello();
  finish_politely();
}

void SmtpDialogue::say_hello() {
  state_ = State::ehlo;
  send(lmtp_ ? "lhlo" : "ehlo", fmt::format("{} {}", lmtp_ ? "LHLO" : "EHLO", request_.hostname));
}

void SmtpDialogue::after_hello() {
  if (request_.tls == config::ProbeTls::starttls && !tls_active()) {
    step_ = "starttls";
    if (state_ == State::helo || !mail::ehlo_offers(reply_.text(), "STARTTLS"))
      return fail(ProbeOutcome::tls_failed, "[STARTTLS is not offered]");
    state_ = State::starttls;
    return send("starttls", "STARTTLS");
  }
  if (!request_.deep || request_.steps.login_user.empty()) return after_auth();
  if (!may_log_in()) return;
  std::string_view mechanisms;
  step_ = "login";
  if (!mail::ehlo_offers(reply_.text(), "AUTH", &mechanisms) ||
      fmt::format(" {} ", mechanisms).find(" PLAIN ") == std::string::npos)
    return fail(ProbeOutcome::step_failed, "[AUTH PLAIN is not offered]");
  state_ = State::auth;
  // RFC 4616, with the initial response of RFC 4954.
  const std::string secret = base64(std::string(1, '\0') + request_.steps.login_user +
                                    std::string(1, '\0') + request_.steps.login_password);
  send("login", "AUTH PLAIN " + secret, "AUTH PLAIN ****");
}

void SmtpDialogue::on_tls() {
  reply_ = {};
  say_hello();  // RFC 3207 4.2: all that was said before is forgotten
}

void SmtpDialogue::after_auth() {
  if (!request_.deep || request_.steps.rcpt.empty()) return finish_politely();
  state_ = State::mail;
  send("mail", "MAIL FROM:<>");
}

void SmtpDialogue::finish_politely() {
  state_ = State::quit;
  leave();
}

}  // namespace poise::health
