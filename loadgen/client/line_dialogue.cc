#include "loadgen/client/line_dialogue.h"

#include <algorithm>
#include <array>

namespace poise::loadgen {
namespace {

using Verb = Action::Verb;

/// What is said the same each time; whose protocol knows it add_action has checked.
struct Plain {
  Verb verb;
  Command command;
  std::string_view line;
};
constexpr std::array kPlain{Plain{Verb::select, Command::select, "SELECT INBOX"},
                            Plain{Verb::status, Command::status, "STATUS INBOX (MESSAGES UNSEEN)"},
                            Plain{Verb::search, Command::search, "SEARCH UNSEEN"},
                            Plain{Verb::stat, Command::stat, "STAT"},
                            Plain{Verb::list, Command::list, "LIST"},
                            Plain{Verb::uidl, Command::uidl, "UIDL"},
                            Plain{Verb::noop, Command::noop, "NOOP"}};

}  // namespace

void LineClientDialogue::receive(std::string_view bytes, ClientWire& wire) {
  while (state_ != State::done && state_ != State::failed) {
    if (!take_body(bytes, wire)) return;
    std::string_view line;
    switch (lines_.next(bytes, line)) {
      case mail::LineReader::Status::more:
        return;
      case mail::LineReader::Status::too_long:
        return fail_with_junk();
      case mail::LineReader::Status::line:
        on_line(line, wire);
    }
    // What came in clear behind the answer to STARTTLS is nobody's answer.
    if (wire.start_tls) return;
  }
}

void LineClientDialogue::begin(ClientWire& wire) {
  state_ = State::talking;
  if (script_.tls == Tls::starttls) return ask(Command::starttls, words_.starttls, wire);
  log_in(wire);
}

void LineClientDialogue::secured(ClientWire& wire) {
  forget_input();
  log_in(wire);
}

void LineClientDialogue::log_in(ClientWire& wire) {
  if (script_.connect_only) return say_goodbye(wire);
  say_login(wire);
}

void LineClientDialogue::resume(ClientWire& wire) {
  waiting_ = false;
  next_action(wire);
}

void LineClientDialogue::next_action(ClientWire& wire) {
  while (next_ < script_.actions.size()) {
    const Action& action = script_.actions[next_++];
    if (action.verb != Verb::wait) {
      if (say_plain(action, wire) || perform(action, wire)) return;
    } else if (action.time > 0) {
      waiting_ = true;
      wire.wait = action.time;
      return;
    }
  }
  say_goodbye(wire);
}

bool LineClientDialogue::say_plain(const Action& action, ClientWire& wire) {
  const auto plain = std::find_if(kPlain.begin(), kPlain.end(), [&action](const Plain& each) {
    return each.verb == action.verb;
  });
  if (plain == kPlain.end()) return false;
  ask(plain->command, plain->line, wire);
  return true;
}

void LineClientDialogue::ask(Command command, std::string_view line, ClientWire& wire) {
  command_ = command;
  wire.ask(command);
  wire.out.append(prefix());
  wire.out.append(line);
  wire.out.append("\r\n");
}

void LineClientDialogue::finish(ClientWire& wire) {
  wire.answer(Command::quit);
  state_ = is_leaving() ? State::failed : State::done;
}

}  // namespace poise::loadgen
