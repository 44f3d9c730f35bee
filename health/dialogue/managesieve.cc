#include "health/dialogue/managesieve.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

namespace poise::health {

void ManageSieveDialogue::on_logical_line(std::string_view line) {
  if (line.starts_with('"')) return on_capability(line);
  const bool yes = begins_with_word(line, "OK");
  if (yes || begins_with_word(line, "NO")) return on_response(yes, line);
  if (begins_with_word(line, "BYE")) {
    if (state_ == State::logout) return left(true, line);
    return fail(ProbeOutcome::bye, line, false);
  }
  garbage(line);
}

void ManageSieveDialogue::on_capability(std::string_view line) {
  if (begins_with_word(line, "\"STARTTLS\"")) offers_starttls_ = true;
  if (!begins_with_word(line, "\"SASL\"")) return;
  std::string mechanisms(line.substr(6));
  std::replace(mechanisms.begin(), mechanisms.end(), '"', ' ');
  offers_plain_ = has_word(mechanisms, "PLAIN");
}

void ManageSieveDialogue::on_response(bool yes, std::string_view line) {
  if (state_ == State::greeting)
    return yes ? greeting_is_good(line) : fail(ProbeOutcome::bye, line, false);
  if (answers_header() && !yes) return fail(ProbeOutcome::proxy, line, false);
  if (state_ == State::logout) return left(yes, line);
  header_was_taken();
  switch (state_) {
    case State::starttls:
      return yes ? start_tls() : fail(ProbeOutcome::tls_failed, line);
    case State::tls_greeting:
      return yes ? after_tls() : fail(ProbeOutcome::step_failed, line);
    case State::capability:
      return yes ? take_leave() : fail(ProbeOutcome::step_failed, line);
    case State::login:
      if (yes) return take_leave();
      verdict_.auth_failed = line.find("(TRYLATER") == std::string_view::npos;
      return fail(ProbeOutcome::step_failed, line);
    case State::greeting:
    case State::logout:
      break;
  }
}

void ManageSieveDialogue::after_greeting() {
  if (request_.tls != config::ProbeTls::starttls) return after_tls();
  step_ = "starttls";
  if (!offers_starttls_) return fail(ProbeOutcome::tls_failed, "[STARTTLS is not offered]");
  state_ = State::starttls;
  send("starttls", "STARTTLS");
}

void ManageSieveDialogue::on_tls() {
  offers_plain_ = false;
  state_ = State::tls_greeting;
  step_ = "capability";
}

void ManageSieveDialogue::after_tls() {
  if (!request_.deep) return take_leave();
  if (request_.steps.login_user.empty()) {
    state_ = State::capability;
    return send("capability", "CAPABILITY");
  }
  if (!may_log_in()) return;
  step_ = "login";
  if (!offers_plain_) return fail(ProbeOutcome::step_failed, "[SASL PLAIN is not offered]");
  state_ = State::login;
  const DeepSteps& steps = request_.steps;
  send("login",
       fmt::format("AUTHENTICATE \"PLAIN\" \"{}\"",
                   base64(std::string(1, '\0') + steps.login_user + std::string(1, '\0') +
                          steps.login_password)),
       "AUTHENTICATE \"PLAIN\" \"****\"");
}

void ManageSieveDialogue::take_leave() {
  state_ = State::logout;
  leave();
}

}  // namespace poise::health
