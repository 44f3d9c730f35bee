#include "loadgen/client/sieve_dialogue.h"

#include <fmt/format.h>

#include "loadgen/text/words.h"

namespace poise::loadgen {

void SieveClientDialogue::command(Command command, std::string_view line, ClientWire& wire) {
  command_ = command;
  wire.ask(command);
  wire.out.append(line);
  wire.out.append("\r\n");
}

void SieveClientDialogue::receive(std::string_view bytes, ClientWire& wire) {
  while (state_ != State::done && state_ != State::failed) {
    std::string_view line;
    switch (lines_.next(bytes, line)) {
      case mail::LineReader::Status::more:
        return;
      case mail::LineReader::Status::too_long:
        return fail(state_ == State::greeting ? Failure::greeting_junk : Failure::junk);
      case mail::LineReader::Status::line:
        on_line(line, wire);
    }
    if (wire.start_tls) return;
  }
}

void SieveClientDialogue::on_line(std::string_view line, ClientWire& wire) {
  const bool greeting = command_ == Command::greeting;
  // A capability: "NAME" "value". The server's name is in the first one of most.
  if (line.starts_with('"') && (greeting || command_ == Command::tls)) {
    constexpr std::string_view kName = "\"IMPLEMENTATION\" \"";
    if (greeting && starts_with_word(line, kName)) {
      server_name_ = line.substr(kName.size());
      if (server_name_.ends_with('"')) server_name_.pop_back();
    }
    return;
  }
  const std::string_view word = take_word(line);
  if (same_word(word, "OK")) return on_ok(wire);
  if (same_word(word, "BYE")) {
    if (command_ == Command::quit) return on_ok(wire);
    return fail(greeting ? Failure::greeting_bye : Failure::service_closing, "BYE");
  }
  // A second NO, to LOGOUT, would be answered by another for ever.
  if (!same_word(word, "NO") || greeting || waiting_ || command_ == Command::quit)
    return fail(greeting ? Failure::greeting_junk : Failure::junk);
  if (command_ == Command::tls) return fail(Failure::junk);
  wire.refuse(command_);
  note_failure(Failure::denied, "NO");
  command(Command::quit, "LOGOUT", wire);
}

void SieveClientDialogue::on_ok(ClientWire& wire) {
  if (waiting_) return fail(Failure::junk);
  if (command_ == Command::greeting) {
    state_ = State::talking;
    if (script_.tls == Tls::starttls) return command(Command::starttls, "STARTTLS", wire);
    return log_in(wire);
  }
  if (command_ == Command::tls) return log_in(wire);  // RFC 5804 2.2: capabilities again, unasked
  wire.answer(command_);
  if (command_ == Command::starttls) {
    wire.start_tls = true;
  } else if (command_ == Command::quit) {
    state_ = is_leaving() ? State::failed : State::done;
  } else {
    next_action(wire);
  }
}

void SieveClientDialogue::secured(ClientWire&) {
  lines_ = mail::LineReader(kMaxLineBytes);
  command_ = Command::tls;
}

void SieveClientDialogue::resume(ClientWire& wire) {
  waiting_ = false;
  next_action(wire);
}

void SieveClientDialogue::log_in(ClientWire& wire) {
  if (script_.connect_only) return command(Command::quit, "LOGOUT", wire);
  if (!script_.auth) return next_action(wire);
  command(Command::auth,
          fmt::format("AUTHENTICATE \"PLAIN\" \"{}\"",
                      base64_plain(login_name(script_, session_), script_.password)),
          wire);
}

void SieveClientDialogue::next_action(ClientWire& wire) {
  while (next_ < script_.actions.size()) {
    const Action& action = script_.actions[next_++];
    if (action.verb == Action::Verb::noop) return command(Command::noop, "NOOP", wire);
    if (action.time == 0) continue;
    waiting_ = true;
    wire.wait = action.time;
    return;
  }
  command(Command::quit, "LOGOUT", wire);
}

}  // namespace poise::loadgen
