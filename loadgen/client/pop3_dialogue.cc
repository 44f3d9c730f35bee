#include "loadgen/client/pop3_dialogue.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "loadgen/text/words.h"
#include "mail/greeting.h"

namespace poise::loadgen {

void Pop3ClientDialogue::command(Command command, std::string_view line, ClientWire& wire) {
  command_ = command;
  wire.ask(command);
  wire.out.append(line);
  wire.out.append("\r\n");
}

void Pop3ClientDialogue::receive(std::string_view bytes, ClientWire& wire) {
  while (state_ != State::done && state_ != State::failed) {
    std::string_view piece;
    if (in_body_) {
      const mail::DotReader::Status got = dots_.next(bytes, piece);
      if (got == mail::DotReader::Status::more) return;
      if (got == mail::DotReader::Status::end) after_body(wire);
      continue;
    }
    switch (lines_.next(bytes, piece)) {
      case mail::LineReader::Status::more:
        return;
      case mail::LineReader::Status::too_long:
        return fail(state_ == State::greeting ? Failure::greeting_junk : Failure::junk);
      case mail::LineReader::Status::line:
        on_status(piece, wire);
    }
    if (wire.start_tls) return;
  }
}

void Pop3ClientDialogue::on_status(std::string_view line, ClientWire& wire) {
  const bool greeting = command_ == Command::greeting;
  if (greeting) server_name_ = mail::greeting_name(Protocol::pop3, line);
  const mail::GreetingClass kind =
      mail::classify_greeting(Protocol::pop3, line);  // greetings and answers look alike
  if (kind == mail::GreetingClass::junk || waiting_)
    return fail(greeting ? Failure::greeting_junk : Failure::junk);
  const bool good = kind == mail::GreetingClass::good;
  if (greeting && !good) return fail(Failure::greeting_bye, "-ERR");
  if (command_ == Command::quit) {
    wire.answer(Command::quit);
    state_ = is_leaving() ? State::failed : State::done;
    return;
  }
  if (!good) {
    wire.refuse(command_);
    note_failure(Failure::denied, "-ERR");
    return command(Command::quit, "QUIT", wire);
  }
  if (greeting) {
    state_ = State::talking;
    if (script_.tls == Tls::starttls) return command(Command::starttls, "STLS", wire);
    return log_in(wire);
  }
  if (command_ == Command::list || command_ == Command::uidl || command_ == Command::retr) {
    dots_.reset();
    in_body_ = true;
    return;
  }
  wire.answer(command_);
  if (command_ == Command::starttls) {
    wire.start_tls = true;
    return;
  }
  if (command_ == Command::user)
    return command(Command::pass, fmt::format("PASS {}", script_.password), wire);
  if (command_ == Command::stat) {
    take_word(line);
    // A deletion counts at once in STAT, but numbers stay (RFC 1939 5).
    count_ = parse_number(take_word(line)).value_or(0) + deleted_.size();
  }
  next_action(wire);
}

void Pop3ClientDialogue::secured(ClientWire& wire) {
  lines_ = mail::LineReader(kMaxLineBytes);
  log_in(wire);
}

void Pop3ClientDialogue::resume(ClientWire& wire) {
  waiting_ = false;
  next_action(wire);
}

void Pop3ClientDialogue::log_in(ClientWire& wire) {
  if (script_.connect_only) return command(Command::quit, "QUIT", wire);
  command(Command::user, fmt::format("USER {}", login_name(script_, session_)), wire);
}

void Pop3ClientDialogue::after_body(ClientWire& wire) {
  in_body_ = false;
  wire.answer(command_);
  if (command_ == Command::retr) ++wire.fetches;
  next_action(wire);
}

bool Pop3ClientDialogue::pick() {
  if (deleted_.size() >= count_) return false;
  do {
    picked_ = cursor_++ % count_ + 1;
  } while (std::find(deleted_.begin(), deleted_.end(), picked_) != deleted_.end());
  return true;
}

void Pop3ClientDialogue::next_action(ClientWire& wire) {
  while (next_ < script_.actions.size()) {
    const Action& action = script_.actions[next_++];
    switch (action.verb) {
      case Action::Verb::stat:
        return command(Command::stat, "STAT", wire);
      case Action::Verb::list:
        return command(Command::list, "LIST", wire);
      case Action::Verb::uidl:
        return command(Command::uidl, "UIDL", wire);
      case Action::Verb::retr:
        if (!pick()) continue;
        return command(Command::retr, fmt::format("RETR {}", picked_), wire);
      case Action::Verb::dele:
        if (picked_ == 0) continue;
        deleted_.push_back(picked_);
        return command(Command::dele, fmt::format("DELE {}", std::exchange(picked_, 0)), wire);
      case Action::Verb::noop:
        return command(Command::noop, "NOOP", wire);
      case Action::Verb::wait:
        if (action.time == 0) continue;
        waiting_ = true;
        wire.wait = action.time;
        return;
      case Action::Verb::message:
      case Action::Verb::rset:
      case Action::Verb::select:
      case Action::Verb::status:
      case Action::Verb::search:
      case Action::Verb::fetch:
      case Action::Verb::append:
      case Action::Verb::idle:
        continue;  // other protocols': add_action refuses them
    }
  }
  command(Command::quit, "QUIT", wire);
}

}  // namespace poise::loadgen
