#include "loadgen/client/imap_dialogue.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "loadgen/text/words.h"
#include "mail/greeting.h"

namespace poise::loadgen {

void ImapClientDialogue::command(Command command, std::string_view text, ClientWire& wire) {
  command_ = command;
  wire.ask(command);
  wire.out.append(fmt::format("a{} {}\r\n", ++tag_, text));
}

void ImapClientDialogue::receive(std::string_view bytes, ClientWire& wire) {
  while (state_ != State::done && state_ != State::failed) {
    if (literal_left_ > 0) {
      const std::uint64_t taken = std::min<std::uint64_t>(literal_left_, bytes.size());
      bytes.remove_prefix(taken);
      literal_left_ -= taken;
      if (literal_left_ > 0) return;
    }
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

void ImapClientDialogue::on_line(std::string_view line, ClientWire& wire) {
  if (command_ == Command::greeting) return on_greeting(line, wire);
  const bool continued = continued_;
  continued_ = false;
  if (line.ends_with('}')) {
    const std::size_t open = line.rfind('{');
    const auto size = open == std::string_view::npos
                          ? std::nullopt
                          : parse_number(line.substr(open + 1, line.size() - open - 2));
    if (size) {
      literal_left_ = *size;
      continued_ = true;
      if (command_ == Command::fetch) ++fetched_;
    }
  }
  if (continued) return;
  const std::string_view tag = take_word(line);
  if (tag == "*") {
    const std::string_view first = take_word(line);
    if (same_word(first, "BYE") && command_ != Command::quit)
      return fail(Failure::service_closing, "BYE");
    if (same_word(line, "EXISTS")) exists_ = parse_number(first).value_or(0);
    return;
  }
  if (tag == "+") return on_continuation(wire);
  if (waiting_ || tag != fmt::format("a{}", tag_)) return fail(Failure::junk);
  on_tagged(take_word(line), wire);
}

void ImapClientDialogue::on_greeting(std::string_view line, ClientWire& wire) {
  server_name_ = mail::greeting_name(Protocol::imap, line);
  switch (mail::classify_greeting(Protocol::imap, line)) {
    case mail::GreetingClass::good:
      break;
    case mail::GreetingClass::bye:
      return fail(Failure::greeting_bye, "BYE");
    case mail::GreetingClass::temporary:
    case mail::GreetingClass::permanent:
    case mail::GreetingClass::policy_421:
    case mail::GreetingClass::junk:
    case mail::GreetingClass::none:
      return fail(Failure::greeting_junk);
  }
  state_ = State::talking;
  if (script_.tls == Tls::starttls) return command(Command::starttls, "STARTTLS", wire);
  log_in(wire);
}

void ImapClientDialogue::secured(ClientWire& wire) {
  lines_ = mail::LineReader(kMaxLineBytes);
  log_in(wire);
}

void ImapClientDialogue::log_in(ClientWire& wire) {
  if (script_.connect_only) return command(Command::quit, "LOGOUT", wire);
  command(Command::login,
          fmt::format("LOGIN {} {}", imap_quoted(login_name(script_, session_)),
                      imap_quoted(script_.password)),
          wire);
}

void ImapClientDialogue::on_continuation(ClientWire& wire) {
  if (command_ == Command::append && !header_.empty()) {
    wire.out.append(header_);
    wire.out.append_shared(messages_.plain_body(id_));
    wire.out.append("\r\n");
    header_.clear();
  } else if (command_ == Command::idle) {
    wire.answer(Command::idle);
    command_ = Command::done;
    wire.wait = std::max<Nanos>(idle_, 1);
  } else {
    fail(Failure::junk);
  }
}

void ImapClientDialogue::resume(ClientWire& wire) {
  if (command_ == Command::done && !waiting_) {
    wire.ask(Command::done);
    wire.out.append("DONE\r\n");
    return;
  }
  waiting_ = false;
  next_action(wire);
}

void ImapClientDialogue::on_tagged(std::string_view result, ClientWire& wire) {
  if (command_ == Command::quit) {
    wire.answer(Command::quit);
    state_ = is_leaving() ? State::failed : State::done;
    return;
  }
  if (!same_word(result, "OK")) {
    id_.clear();
    wire.refuse(command_);
    note_failure(Failure::denied, std::string(result));
    return command(Command::quit, "LOGOUT", wire);
  }
  wire.answer(command_);
  if (command_ == Command::starttls) {
    wire.start_tls = true;
    return;
  }
  if (command_ == Command::append) accepted(wire);
  wire.fetches += std::exchange(fetched_, 0);
  next_action(wire);
}

void ImapClientDialogue::next_action(ClientWire& wire) {
  while (next_ < script_.actions.size()) {
    const Action& action = script_.actions[next_++];
    switch (action.verb) {
      case Action::Verb::select:
        return command(Command::select, "SELECT INBOX", wire);
      case Action::Verb::status:
        return command(Command::status, "STATUS INBOX (MESSAGES UNSEEN)", wire);
      case Action::Verb::search:
        return command(Command::search, "SEARCH UNSEEN", wire);
      case Action::Verb::fetch:
        if (exists_ == 0) continue;
        return command(Command::fetch, fmt::format("FETCH {} BODY.PEEK[]", cursor_++ % exists_ + 1),
                       wire);
      case Action::Verb::append:
        header_.clear();
        id_ = messages_.next(header_, {});
        return command(
            Command::append,
            fmt::format("APPEND INBOX {{{}}}", header_.size() + messages_.plain_body(id_).size()),
            wire);
      case Action::Verb::idle:
        idle_ = action.time;
        return command(Command::idle, "IDLE", wire);
      case Action::Verb::noop:
        return command(Command::noop, "NOOP", wire);
      case Action::Verb::wait:
        if (action.time == 0) continue;
        waiting_ = true;
        wire.wait = action.time;
        return;
      case Action::Verb::message:
      case Action::Verb::rset:
      case Action::Verb::stat:
      case Action::Verb::list:
      case Action::Verb::uidl:
      case Action::Verb::retr:
      case Action::Verb::dele:
        continue;  // other protocols': add_action refuses them
    }
  }
  command(Command::quit, "LOGOUT", wire);
}

}  // namespace poise::loadgen
