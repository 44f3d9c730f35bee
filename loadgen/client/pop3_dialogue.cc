#include "loadgen/client/pop3_dialogue.h"

#include <fmt/format.h>

#include "loadgen/text/words.h"
#include "mail/greeting.h"

namespace poise::loadgen {

void Pop3ClientDialogue::command(Step step, std::string_view line, ClientWire& wire) {
  step_ = step;
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
  }
}

void Pop3ClientDialogue::on_status(std::string_view line, ClientWire& wire) {
  if (step_ == Step::greeting) server_name_ = mail::greeting_name(Protocol::pop3, line);
  const mail::GreetingClass kind =
      mail::classify_greeting(Protocol::pop3, line);  // greetings and answers look alike
  if (kind == mail::GreetingClass::junk)
    return fail(step_ == Step::greeting ? Failure::greeting_junk : Failure::junk);
  const bool good = kind == mail::GreetingClass::good;
  if (step_ == Step::greeting && !good) return fail(Failure::greeting_bye, "-ERR");
  if (step_ == Step::quit) {
    state_ = is_leaving() ? State::failed : State::done;
    return;
  }
  if (!good) {
    note_failure(Failure::denied, "-ERR");
    return command(Step::quit, "QUIT", wire);
  }
  switch (step_) {
    case Step::greeting:
      state_ = State::talking;
      if (script_.connect_only) return command(Step::quit, "QUIT", wire);
      return command(Step::user, fmt::format("USER {}", script_.user), wire);
    case Step::user:
      return command(Step::pass, fmt::format("PASS {}", script_.password), wire);
    case Step::pass:
      return command(Step::stat, "STAT", wire);
    case Step::stat: {
      take_word(line);
      count_ = parse_number(take_word(line)).value_or(0);
      return command(Step::list, "LIST", wire);
    }
    case Step::list:
    case Step::retr:
      dots_.reset();
      in_body_ = true;
      return;
    case Step::quit:
      break;
  }
}

void Pop3ClientDialogue::after_body(ClientWire& wire) {
  in_body_ = false;
  if (step_ == Step::retr) {
    ++wire.fetches;
    return command(Step::quit, "QUIT", wire);
  }
  if (count_ == 0) return command(Step::quit, "QUIT", wire);
  command(Step::retr, fmt::format("RETR {}", session_ % count_ + 1), wire);
}

}  // namespace poise::loadgen
