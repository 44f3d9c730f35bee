#include "loadgen/client/imap_dialogue.h"

#include <fmt/format.h>

#include <algorithm>

#include "loadgen/text/words.h"
#include "mail/greeting.h"

namespace poise::loadgen {

void ImapClientDialogue::command(Step step, std::string_view text, ClientWire& wire) {
  step_ = step;
  wire.out.append(fmt::format("a{} {}\r\n", static_cast<unsigned>(step), text));
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
  }
}

void ImapClientDialogue::on_line(std::string_view line, ClientWire& wire) {
  if (step_ == Step::greeting) return on_greeting(line, wire);
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
      if (step_ == Step::fetch) ++fetched_;
    }
  }
  if (continued) return;
  const std::string_view tag = take_word(line);
  if (tag == "*") {
    const std::string_view first = take_word(line);
    if (same_word(first, "BYE") && step_ != Step::logout)
      return fail(Failure::service_closing, "BYE");
    if (step_ == Step::select && same_word(line, "EXISTS"))
      exists_ = parse_number(first).value_or(0);
    return;
  }
  if (tag != fmt::format("a{}", static_cast<unsigned>(step_))) return fail(Failure::junk);
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
  if (script_.connect_only) return command(Step::logout, "LOGOUT", wire);
  command(Step::login,
          fmt::format("LOGIN {} {}", imap_quoted(script_.user), imap_quoted(script_.password)),
          wire);
}

void ImapClientDialogue::on_tagged(std::string_view result, ClientWire& wire) {
  if (step_ == Step::logout) {
    state_ = is_leaving() ? State::failed : State::done;
    return;
  }
  if (!same_word(result, "OK")) {
    note_failure(Failure::denied, std::string(result));
    return command(Step::logout, "LOGOUT", wire);
  }
  switch (step_) {
    case Step::login:
      return command(Step::select, "SELECT INBOX", wire);
    case Step::select:
      if (exists_ == 0) return command(Step::logout, "LOGOUT", wire);
      return command(Step::fetch, fmt::format("FETCH {} BODY.PEEK[]", session_ % exists_ + 1),
                     wire);
    case Step::fetch:
      wire.fetches += fetched_;
      return command(Step::logout, "LOGOUT", wire);
    case Step::greeting:
    case Step::logout:
      break;
  }
}

}  // namespace poise::loadgen
