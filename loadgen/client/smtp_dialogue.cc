#include "loadgen/client/smtp_dialogue.h"

#include <fmt/format.h>

#include <utility>

#include "loadgen/text/words.h"

namespace poise::loadgen {

void SmtpClientDialogue::say(Command command, std::string_view line, ClientWire& wire) {
  wire.ask(command);
  wire.out.append(line);
  wire.out.append("\r\n");
}

void SmtpClientDialogue::receive(std::string_view bytes, ClientWire& wire) {
  while (state_ != State::done && state_ != State::failed) {
    switch (replies_.next(bytes)) {
      case mail::ReplyReader::Status::more:
        return;
      case mail::ReplyReader::Status::malformed:
        return fail(step_ == Command::greeting ? Failure::greeting_junk : Failure::junk);
      case mail::ReplyReader::Status::complete:
        on_reply(wire);
    }
    // What came in clear behind the answer to STARTTLS is nobody's answer (RFC 3207 4.2).
    if (wire.start_tls) return;
  }
}

void SmtpClientDialogue::on_greeting(ClientWire& wire) {
  const std::string_view text = replies_.text();
  server_name_ = text.substr(0, text.find_first_of(" \n"));
  if (replies_.code() != 220) {
    const int kind = replies_.code() / 100;
    const Failure failure = kind == 4   ? Failure::greeting_421
                            : kind == 5 ? Failure::greeting_5yz
                                        : Failure::greeting_junk;
    note_failure(failure, fmt::format("{}", replies_.code()));
    if (replies_.code() == 421) return fail(failure);  // it closes by itself
    state_ = State::talking;
    return send_quit(wire);
  }
  state_ = State::talking;
  if (script_.connect_only && script_.tls != Tls::starttls) return send_quit(wire);
  say_hello(wire);
}

void SmtpClientDialogue::say_hello(ClientWire& wire) {
  say(Command::hello, fmt::format("{} {}", is_lmtp() ? "LHLO" : "EHLO", script_.helo), wire);
  step_ = Command::hello;
}

void SmtpClientDialogue::secured(ClientWire& wire) {
  secured_ = true;
  replies_ = {};
  if (script_.connect_only) return send_quit(wire);
  say_hello(wire);  // RFC 3207 4.2: what the server said before does not count
}

void SmtpClientDialogue::resume(ClientWire& wire) {
  waiting_ = false;
  next_action(wire);
}

void SmtpClientDialogue::on_reply(ClientWire& wire) {
  if (step_ == Command::greeting) return on_greeting(wire);
  const int code = replies_.code();
  if (step_ == Command::quit) {
    // With pipelining, replies to what had been sent before the QUIT may come first.
    if (code == 221) {
      wire.answer(Command::quit);
      state_ = is_leaving() ? State::failed : State::done;
    } else if (code == 421) {
      fail(Failure::service_closing, "421");
    }
    return;
  }
  if (code == 421) return fail(Failure::service_closing, "421");
  if (waiting_) return fail(Failure::junk);  // nobody had asked
  if (step_ == Command::message) return on_body_reply(wire);
  const int expected = step_ == Command::data ? 3 : 2;
  if (code / 100 != expected) return give_up(wire);
  wire.answer(step_);
  if (step_ == Command::hello) return on_hello(wire);
  if (step_ == Command::starttls) {
    wire.start_tls = true;
  } else if (step_ == Command::mail) {
    step_ = Command::rcpt;
    if (!script_.pipelining) send_rcpt(wire);
  } else if (step_ == Command::rcpt) {
    on_recipient(wire);
  } else if (step_ == Command::data) {
    send_body(wire);
  } else {
    next_action(wire);  // logged in, or no more than a NOOP or RSET
  }
}

void SmtpClientDialogue::on_recipient(ClientWire& wire) {
  ++recipients_answered_;
  if (recipients_sent_ < script_.recipients) return send_rcpt(wire);
  if (recipients_answered_ < script_.recipients) return;
  step_ = Command::data;
  if (!script_.pipelining) say(Command::data, "DATA", wire);
}

void SmtpClientDialogue::on_hello(ClientWire& wire) {
  if (script_.tls == Tls::starttls && !secured_) {
    if (!mail::ehlo_offers(replies_.text(), "STARTTLS")) {
      note_failure(Failure::tls_failed, "not offered");
      return send_quit(wire);
    }
    say(Command::starttls, "STARTTLS", wire);
    step_ = Command::starttls;
    return;
  }
  if (!script_.auth) return next_action(wire);
  say(Command::auth,
      fmt::format("AUTH PLAIN {}", base64_plain(login_name(script_, session_), script_.password)),
      wire);
  step_ = Command::auth;
}

void SmtpClientDialogue::next_action(ClientWire& wire) {
  while (next_ < script_.actions.size()) {
    const Action& action = script_.actions[next_++];
    if (action.verb == Action::Verb::message) {
      if (messages_begun_++ < remainder_.messages_done) continue;
      return begin_message(wire);
    }
    if (action.verb == Action::Verb::wait) {
      if (messages_begun_ < remainder_.messages_done || action.time == 0) continue;
      waiting_ = true;
      wire.wait = action.time;
      return;
    }
    step_ = action.verb == Action::Verb::rset ? Command::rset : Command::noop;
    return say(step_, step_ == Command::rset ? "RSET" : "NOOP", wire);
  }
  send_quit(wire);
}

void SmtpClientDialogue::begin_message(ClientWire& wire) {
  recipients_sent_ = recipients_answered_ = body_replies_ = 0;
  step_ = Command::mail;
  say(Command::mail, fmt::format("MAIL FROM:<{}>", script_.sender), wire);
  if (!script_.pipelining) return;
  while (recipients_sent_ < script_.recipients) send_rcpt(wire);
  say(Command::data, "DATA", wire);
}

void SmtpClientDialogue::send_rcpt(ClientWire& wire) {
  if (recipients_sent_ == 0)
    say(Command::rcpt, fmt::format("RCPT TO:<{}>", script_.recipient), wire);
  else
    say(Command::rcpt, fmt::format("RCPT TO:<{}{}>", recipients_sent_ + 1, script_.recipient),
        wire);
  ++recipients_sent_;
}

void SmtpClientDialogue::send_body(ClientWire& wire) {
  std::string header;
  id_ = messages_.next(header, std::exchange(remainder_.unconfirmed, {}));
  wire.ask(Command::message);
  wire.out.append(header);
  wire.out.append_shared(messages_.body(id_));
  step_ = Command::message;
}

void SmtpClientDialogue::on_body_reply(ClientWire& wire) {
  if (replies_.code() / 100 != 2) {
    id_.clear();  // refused: nobody has it
    return give_up(wire);
  }
  if (is_lmtp() && ++body_replies_ < script_.recipients) return;
  wire.answer(Command::message);
  accepted(wire);
  next_action(wire);
}

void SmtpClientDialogue::send_quit(ClientWire& wire) {
  say(Command::quit, "QUIT", wire);
  step_ = Command::quit;
}

void SmtpClientDialogue::give_up(ClientWire& wire) {
  wire.refuse(step_);
  const int code = replies_.code();
  note_failure(code / 100 == 4   ? Failure::temporary
               : code / 100 == 5 ? Failure::permanent
                                 : Failure::junk,
               fmt::format("{}", code));
  // A pipelined DATA may still be answered 354, and then QUIT would be taken for message text:
  // leave without a word.
  if (script_.pipelining && (step_ == Command::mail || step_ == Command::rcpt))
    return fail(failure());
  send_quit(wire);
}

}  // namespace poise::loadgen
