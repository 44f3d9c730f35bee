#include "health/dialogue/pop3.h"

#include <fmt/format.h>

#include "health/dialogue/literal.h"

namespace poise::health {

void Pop3Dialogue::on_line(std::string_view line) {
  if (state_ == State::capa_list) {
    if (line == ".") return after_capabilities();
    if (begins_with_word(line, "STLS")) offers_stls_ = true;
    return;
  }
  const bool yes = begins_with_word(line, "+OK");
  if (!yes && !begins_with_word(line, "-ERR")) return garbage(line);
  on_status(yes, line);
}

void Pop3Dialogue::on_status(bool yes, std::string_view line) {
  if (state_ == State::greeting)
    return yes ? greeting_is_good(line) : fail(ProbeOutcome::bye, line, false);
  if (answers_header() && !yes) return fail(ProbeOutcome::proxy, line, false);
  if (state_ == State::quit) return left(yes, line);
  header_was_taken();
  switch (state_) {
    case State::capa:
      if (!yes) return after_capabilities();  // RFC 1939 alone has no CAPA
      capabilities_known_ = true;
      state_ = State::capa_list;
      return;
    case State::stls:
      return yes ? start_tls() : fail(ProbeOutcome::tls_failed, line);
    case State::user:
      if (!yes) return fail(ProbeOutcome::step_failed, line);
      state_ = State::pass;
      return send("login", "PASS " + request_.steps.login_password, "PASS ****");
    case State::pass:
      if (!yes) {
        // Answers that say nothing about the credentials (RFC 2449 8, RFC 3206).
        verdict_.auth_failed = true;
        for (const std::string_view code :
             {"[IN-USE]", "[LOGIN-DELAY]", "[SYS/TEMP]", "[SYS/PERM]"})
          if (has_word(line, code)) verdict_.auth_failed = false;
        return fail(ProbeOutcome::step_failed, line);
      }
      state_ = State::stat;
      return send("stat", "STAT");
    case State::stat:
      return yes ? take_leave() : fail(ProbeOutcome::step_failed, line);
    case State::greeting:
    case State::capa_list:
    case State::quit:
      break;
  }
}

void Pop3Dialogue::after_greeting() {
  if (!request_.deep && request_.tls != config::ProbeTls::starttls) return take_leave();
  state_ = State::capa;
  send("capa", "CAPA");
}

void Pop3Dialogue::after_capabilities() {
  if (request_.tls == config::ProbeTls::starttls && !tls_active()) {
    step_ = "stls";
    if (capabilities_known_ && !offers_stls_)
      return fail(ProbeOutcome::tls_failed, "[STLS is not offered]");
    state_ = State::stls;
    return send("stls", "STLS");
  }
  if (request_.deep && !request_.steps.login_user.empty()) return log_in();
  take_leave();
}

void Pop3Dialogue::on_tls() {
  after_capabilities();
}

void Pop3Dialogue::log_in() {
  if (!may_log_in()) return;
  state_ = State::user;
  send("login", "USER " + request_.steps.login_user, "USER ****");
}

void Pop3Dialogue::take_leave() {
  state_ = State::quit;
  leave();
}

}  // namespace poise::health
