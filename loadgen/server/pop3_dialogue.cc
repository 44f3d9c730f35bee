#include "loadgen/server/pop3_dialogue.h"

#include <fmt/format.h>

#include "loadgen/text/words.h"
#include "mail/dot_stuffing.h"

namespace poise::loadgen {

void Pop3ServerDialogue::reply(std::string_view line, Wire& wire) {
  wire.out.append(line);
  wire.out.append("\r\n");
}

void Pop3ServerDialogue::error(std::string_view line, Wire& wire) {
  reply(line, wire);
  if (++errors_ >= kMaxErrors) wire.close = true;
}

void Pop3ServerDialogue::greet(std::string_view text, Wire& wire) {
  if (text.empty()) return reply(fmt::format("+OK {} ready.", settings_.name), wire);
  reply(text, wire);
  if (!text.starts_with("+OK")) wire.close = true;
}

void Pop3ServerDialogue::time_out(Wire& wire) {
  wire.close = true;
}  // RFC 1939 3: without a response

void Pop3ServerDialogue::receive(std::string_view& bytes, Wire& wire) {
  while (!bytes.empty() && !wire.full()) {
    std::string_view line;
    switch (lines_.next(bytes, line)) {
      case mail::LineReader::Status::more:
        return;
      case mail::LineReader::Status::too_long:
        ++wire.replies;
        error("-ERR Line too long", wire);
        break;
      case mail::LineReader::Status::line:
        on_line(line, wire);
        break;
    }
  }
}

void Pop3ServerDialogue::on_line(std::string_view line, Wire& wire) {
  ++wire.replies;
  std::string_view argument = line;
  const std::string_view verb = take_word(argument);
  if (same_word(verb, "QUIT")) {
    reply(fmt::format("+OK {} Bye", settings_.name), wire);
    wire.goodbye = true;
    wire.close = true;
    return;
  }
  if (same_word(verb, "CAPA")) {
    return reply(fmt::format("+OK\r\nUSER\r\nTOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\n{}"
                             "IMPLEMENTATION poise-load\r\n.",
                             settings_.tls && !secured_ ? "STLS\r\n" : ""),
                 wire);
  }
  if (logged_in_)
    on_transaction(verb, argument, wire);
  else
    on_login(verb, argument, wire);
}

void Pop3ServerDialogue::on_login(std::string_view verb, std::string_view argument, Wire& wire) {
  if (same_word(verb, "USER")) {
    user_given_ = !argument.empty();
    if (!user_given_) return error("-ERR Which user?", wire);
    return reply("+OK", wire);
  }
  if (same_word(verb, "PASS")) {
    if (!user_given_) return error("-ERR USER first", wire);
    user_given_ = false;
    if (!settings_.password.empty() && argument != settings_.password)
      return error("-ERR [AUTH] Wrong password", wire);
    logged_in_ = true;
    deleted_.assign(mailbox_.messages().size(), false);
    return reply("+OK Logged in.", wire);
  }
  if (same_word(verb, "STLS")) {
    if (!settings_.tls || secured_) return error("-ERR TLS is not offered, or on already", wire);
    reply("+OK Begin TLS", wire);
    wire.start_tls = true;
    return;
  }
  error("-ERR Log in first", wire);
}

void Pop3ServerDialogue::on_transaction(std::string_view verb, std::string_view argument,
                                        Wire& wire) {
  std::size_t index = 0;
  if (same_word(verb, "STAT")) {
    std::uint64_t count = 0;
    std::uint64_t bytes = 0;
    for (std::size_t at = 0; at < deleted_.size(); ++at) {
      if (deleted_[at]) continue;
      ++count;
      bytes += mailbox_.messages()[at].text.size();
    }
    return reply(fmt::format("+OK {} {}", count, bytes), wire);
  }
  if (same_word(verb, "LIST") || same_word(verb, "UIDL")) return list(verb, argument, wire);
  if (same_word(verb, "RETR")) {
    const Mailbox::Message* message = find(argument, index, wire);
    if (!message) return;
    reply(fmt::format("+OK {} octets", message->text.size()), wire);
    wire.out.append_shared(message->stuffed);
    wire.serve(1);
    return;
  }
  if (same_word(verb, "TOP")) return top(argument, wire);
  if (same_word(verb, "DELE")) {
    if (!find(argument, index, wire)) return;
    deleted_[index] = true;
    return reply("+OK Marked", wire);
  }
  if (same_word(verb, "RSET")) {
    deleted_.assign(deleted_.size(), false);
    return reply("+OK", wire);
  }
  if (same_word(verb, "NOOP")) return reply("+OK", wire);
  error("-ERR Unknown command", wire);
}

const Mailbox::Message* Pop3ServerDialogue::find(std::string_view argument, std::size_t& index,
                                                 Wire& wire) {
  const auto number = parse_number(argument);
  if (!number || *number == 0 || *number > deleted_.size() || deleted_[*number - 1]) {
    error("-ERR No such message", wire);
    return nullptr;
  }
  index = *number - 1;
  return &mailbox_.messages()[index];
}

void Pop3ServerDialogue::list(std::string_view verb, std::string_view argument, Wire& wire) {
  const bool uids = same_word(verb, "UIDL");
  const auto value = [&](std::size_t at) {
    const Mailbox::Message& message = mailbox_.messages()[at];
    return uids ? fmt::format("{} poise-{}-{}", at + 1, Mailbox::kUidValidity, message.uid)
                : fmt::format("{} {}", at + 1, message.text.size());
  };
  if (!argument.empty()) {
    std::size_t index = 0;
    if (find(argument, index, wire)) reply("+OK " + value(index), wire);
    return;
  }
  reply("+OK", wire);
  for (std::size_t at = 0; at < deleted_.size(); ++at) {
    if (!deleted_[at]) reply(value(at), wire);
  }
  reply(".", wire);
}

void Pop3ServerDialogue::top(std::string_view argument, Wire& wire) {
  std::size_t index = 0;
  const std::string_view number = take_word(argument);
  const auto lines = parse_number(argument);
  if (!lines) return error("-ERR TOP message lines", wire);
  const Mailbox::Message* message = find(number, index, wire);
  if (!message) return;
  std::size_t end = message->header_bytes;
  for (std::uint64_t line = 0; line < *lines && end < message->text.size(); ++line) {
    end = message->text.find('\n', end) + 1;  // every line has its end
  }
  reply("+OK", wire);
  std::string stuffed;
  mail::append_stuffed(std::string_view(message->text).substr(0, end), stuffed);
  wire.out.append(stuffed);
  wire.out.append(mail::kFinalDot);
}

}  // namespace poise::loadgen
