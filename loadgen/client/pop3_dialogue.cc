#include "loadgen/client/pop3_dialogue.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "loadgen/text/words.h"
#include "mail/greeting.h"

namespace poise::loadgen {

void Pop3ClientDialogue::on_line(std::string_view line, ClientWire& wire) {
  const bool greeting = command_ == Command::greeting;
  if (greeting) server_name_ = mail::greeting_name(Protocol::pop3, line);
  const mail::GreetingClass kind =
      mail::classify_greeting(Protocol::pop3, line);  // greetings and answers look alike
  if (kind == mail::GreetingClass::junk || waiting_) return fail_with_junk();
  const bool good = kind == mail::GreetingClass::good;
  if (greeting && !good) return fail(Failure::greeting_bye, "-ERR");
  if (command_ == Command::quit) return finish(wire);
  if (!good) {
    wire.refuse(command_);
    note_failure(Failure::denied, "-ERR");
    return say_goodbye(wire);
  }
  if (greeting) return begin(wire);
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
    return ask(Command::pass, fmt::format("PASS {}", script_.password), wire);
  if (command_ == Command::stat) {
    take_word(line);
    // A deletion counts at once in STAT, but numbers stay (RFC 1939 5).
    count_ = parse_number(take_word(line)).value_or(0) + deleted_.size();
  }
  next_action(wire);
}

void Pop3ClientDialogue::say_login(ClientWire& wire) {
  ask(Command::user, fmt::format("USER {}", login_name(script_, session_)), wire);
}

bool Pop3ClientDialogue::take_body(std::string_view& bytes, ClientWire& wire) {
  while (in_body_) {
    std::string_view piece;
    const mail::DotReader::Status got = dots_.next(bytes, piece);
    if (got == mail::DotReader::Status::more) return false;
    if (got == mail::DotReader::Status::data) continue;  // nobody reads it
    in_body_ = false;
    wire.answer(command_);
    if (command_ == Command::retr) ++wire.fetches;
    next_action(wire);
  }
  return true;
}

bool Pop3ClientDialogue::pick() {
  if (deleted_.size() >= count_) return false;
  do {
    picked_ = cursor_++ % count_ + 1;
  } while (std::find(deleted_.begin(), deleted_.end(), picked_) != deleted_.end());
  return true;
}

bool Pop3ClientDialogue::perform(const Action& action, ClientWire& wire) {
  if (action.verb == Action::Verb::retr) {
    if (!pick()) return false;
    ask(Command::retr, fmt::format("RETR {}", picked_), wire);
    return true;
  }
  if (action.verb != Action::Verb::dele || picked_ == 0) return false;
  deleted_.push_back(picked_);
  ask(Command::dele, fmt::format("DELE {}", std::exchange(picked_, 0)), wire);
  return true;
}

}  // namespace poise::loadgen
