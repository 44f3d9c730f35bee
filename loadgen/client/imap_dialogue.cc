#include "loadgen/client/imap_dialogue.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "loadgen/text/words.h"
#include "mail/greeting.h"

namespace poise::loadgen {

std::string ImapClientDialogue::prefix() {
  return fmt::format("a{} ", ++tag_);
}

bool ImapClientDialogue::take_body(std::string_view& bytes, ClientWire&) {
  const std::uint64_t taken = std::min<std::uint64_t>(literal_left_, bytes.size());
  bytes.remove_prefix(taken);
  literal_left_ -= taken;
  return literal_left_ == 0;
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
  begin(wire);
}

void ImapClientDialogue::say_login(ClientWire& wire) {
  ask(Command::login,
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
  LineClientDialogue::resume(wire);
}

void ImapClientDialogue::on_tagged(std::string_view result, ClientWire& wire) {
  if (command_ == Command::quit) return finish(wire);
  if (!same_word(result, "OK")) {
    id_.clear();
    wire.refuse(command_);
    note_failure(Failure::denied, std::string(result));
    return say_goodbye(wire);
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

bool ImapClientDialogue::perform(const Action& action, ClientWire& wire) {
  if (action.verb == Action::Verb::fetch) {
    if (exists_ == 0) return false;
    ask(Command::fetch, fmt::format("FETCH {} BODY.PEEK[]", cursor_++ % exists_ + 1), wire);
  } else if (action.verb == Action::Verb::append) {
    header_.clear();
    id_ = messages_.next(header_, {});
    ask(Command::append,
        fmt::format("APPEND INBOX {{{}}}", header_.size() + messages_.plain_body(id_).size()),
        wire);
  } else if (action.verb == Action::Verb::idle) {
    idle_ = action.time;
    ask(Command::idle, "IDLE", wire);
  } else {
    return false;
  }
  return true;
}

}  // namespace poise::loadgen
