#include "loadgen/server/smtp_dialogue.h"

#include <fmt/format.h>

#include "loadgen/text/words.h"

namespace poise::loadgen {
namespace {

/// "FROM:<a@b> SIZE=1" -> path "a@b", rest "SIZE=1". False when that is no path. Blanks after the
/// colon are a common fault of clients, forgiven as most servers do.
bool parse_path(std::string_view argument, std::string_view keyword, std::string_view& path,
                std::string_view& rest) {
  if (!starts_with_word(argument, keyword)) return false;
  argument.remove_prefix(keyword.size());
  while (argument.starts_with(' ')) argument.remove_prefix(1);
  if (!argument.starts_with('<')) return false;
  const std::size_t end = argument.find('>');
  if (end == std::string_view::npos) return false;
  path = argument.substr(1, end - 1);
  rest = argument.substr(end + 1);
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  return true;
}

}  // namespace

void SmtpServerDialogue::reply(std::string_view line, Wire& wire) {
  wire.out.append(line);
  wire.out.append("\r\n");
}

void SmtpServerDialogue::error(std::string_view line, Wire& wire) {
  reply(line, wire);
  if (++errors_ < kMaxErrors) return;
  reply(fmt::format("421 4.7.0 {} Too many errors", settings_.name), wire);
  wire.close = true;
}

void SmtpServerDialogue::greet(std::string_view text, Wire& wire) {
  if (text.empty()) {
    reply(fmt::format("220 {} {} poise-load", settings_.name, is_lmtp() ? "LMTP" : "ESMTP"), wire);
    return;
  }
  reply(text, wire);
  if (text.starts_with("421")) wire.close = true;
  if (text.starts_with('4') || text.starts_with('5')) state_ = State::refused;
}

void SmtpServerDialogue::time_out(Wire& wire) {
  reply(fmt::format("421 4.4.2 {} Idle for too long", settings_.name), wire);
  wire.close = true;
}

void SmtpServerDialogue::secured(Wire&) {
  reset_transaction();
  lines_ = mail::LineReader(kMaxLineBytes);
  secured_ = true;
  hello_ = false;  // RFC 3207 4.2: both sides begin anew
}

void SmtpServerDialogue::on_starttls(Wire& wire) {
  if (!settings_.tls) return error("502 5.5.1 TLS is not offered", wire);
  if (secured_) return error("503 5.5.1 TLS is on already", wire);
  reply("220 2.0.0 Ready to start TLS", wire);
  wire.start_tls = true;
}

void SmtpServerDialogue::receive(std::string_view& bytes, Wire& wire) {
  while (!bytes.empty() && !wire.full()) {
    if (state_ == State::data) {
      receive_data(bytes, wire);
      continue;
    }
    std::string_view line;
    switch (lines_.next(bytes, line)) {
      case mail::LineReader::Status::more:
        return;
      case mail::LineReader::Status::too_long:
        ++wire.replies;
        error("500 5.5.2 Line too long", wire);
        break;
      case mail::LineReader::Status::line:
        on_line(line, wire);
        break;
    }
  }
}

void SmtpServerDialogue::on_line(std::string_view line, Wire& wire) {
  ++wire.replies;
  switch (state_) {
    case State::commands:
    case State::refused:
      return on_command(line, wire);
    case State::auth_plain:
    case State::auth_user:
    case State::auth_password:
      return on_auth_line(line, wire);
    case State::data:
      break;
  }
}

void SmtpServerDialogue::on_command(std::string_view line, Wire& wire) {
  std::string_view argument = line;
  const std::string_view verb = take_word(argument);
  if (same_word(verb, "QUIT")) {
    reply(fmt::format("221 2.0.0 {} Bye", settings_.name), wire);
    wire.goodbye = true;
    wire.close = true;
    return;
  }
  if (state_ == State::refused)
    return error("503 5.5.1 Service refused; QUIT is all that is left", wire);
  if (same_word(verb, "EHLO") || same_word(verb, "HELO") || same_word(verb, "LHLO"))
    return on_hello(verb, argument, wire);
  if (same_word(verb, "MAIL")) return on_mail(argument, wire);
  if (same_word(verb, "RCPT")) return on_rcpt(argument, wire);
  if (same_word(verb, "DATA")) return on_data(wire);
  if (same_word(verb, "RSET")) {
    reset_transaction();
    return reply("250 2.0.0 Ok", wire);
  }
  if (same_word(verb, "NOOP")) return reply("250 2.0.0 Ok", wire);
  if (same_word(verb, "VRFY")) return reply("252 2.0.0 Send some mail, it will be counted", wire);
  if (same_word(verb, "HELP"))
    return reply("214 2.0.0 This server counts mail and keeps none", wire);
  if (same_word(verb, "AUTH")) return on_auth(argument, wire);
  if (same_word(verb, "STARTTLS")) return on_starttls(wire);
  if (same_word(verb, "EXPN")) return error("502 5.5.1 Not implemented", wire);
  error("500 5.5.2 Command not recognized", wire);
}

void SmtpServerDialogue::on_hello(std::string_view verb, std::string_view argument, Wire& wire) {
  // RFC 2033 4.1: LHLO, and neither HELO nor EHLO, in LMTP.
  if (same_word(verb, "LHLO") != is_lmtp())
    return error("500 5.5.1 Say LHLO in LMTP, EHLO in SMTP", wire);
  if (argument.empty()) return error("501 5.5.4 Who are you?", wire);
  reset_transaction();
  hello_ = true;
  if (same_word(verb, "HELO")) return reply(fmt::format("250 {}", settings_.name), wire);
  reply(
      fmt::format(
          "250-{}\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE {}{}{}\r\n250 ENHANCEDSTATUSCODES",
          settings_.name, settings_.size_max, settings_.tls && !secured_ ? "\r\n250-STARTTLS" : "",
          takes_auth() ? "\r\n250-AUTH PLAIN LOGIN" : ""),
      wire);
}

void SmtpServerDialogue::on_mail(std::string_view argument, Wire& wire) {
  if (!hello_)
    return error(is_lmtp() ? "503 5.5.1 Say LHLO first" : "503 5.5.1 Say EHLO first", wire);
  if (mail_) return error("503 5.5.1 A transaction is under way", wire);
  std::string_view path;
  std::string_view parameters;
  if (!parse_path(argument, "FROM:", path, parameters))
    return error("501 5.1.7 Syntax: MAIL FROM:<address>", wire);
  while (!parameters.empty()) {
    const std::string_view parameter = take_word(parameters);
    const std::string_view keyword = parameter.substr(0, parameter.find('='));
    const std::string_view value =
        parameter.size() > keyword.size() ? parameter.substr(keyword.size() + 1) : "";
    if (same_word(keyword, "SIZE")) {
      const auto size = parse_number(value);
      if (!size) return error("501 5.5.4 SIZE is a number", wire);
      if (*size > settings_.size_max) return error("552 5.3.4 Message too big", wire);
    } else if (!same_word(keyword, "BODY") && !same_word(keyword, "AUTH")) {
      return error("555 5.5.4 Parameter not recognized", wire);
    }
  }
  mail_ = true;
  reply("250 2.1.0 Ok", wire);
}

void SmtpServerDialogue::on_rcpt(std::string_view argument, Wire& wire) {
  if (!mail_) return error("503 5.5.1 Say MAIL first", wire);
  std::string_view path;
  std::string_view parameters;
  if (!parse_path(argument, "TO:", path, parameters) || path.empty()) {
    return error("501 5.1.3 Syntax: RCPT TO:<address>", wire);
  }
  if (!parameters.empty()) return error("555 5.5.4 Parameter not recognized", wire);
  if (starts_with_word(path, "nosuch@")) return error("550 5.1.1 No such user", wire);
  if (starts_with_word(path, "defer@")) return reply("450 4.2.1 Try again later", wire);
  if (recipients_ >= kMaxRecipients) return reply("452 4.5.3 Too many recipients", wire);
  ++recipients_;
  if (is_lmtp()) full_.push_back(starts_with_word(path, "full@"));
  reply("250 2.1.5 Ok", wire);
}

void SmtpServerDialogue::on_data(Wire& wire) {
  if (!mail_) return error("503 5.5.1 Say MAIL first", wire);
  if (recipients_ == 0) return error("554 5.5.1 No valid recipients", wire);
  reply("354 End data with <CR><LF>.<CR><LF>", wire);
  state_ = State::data;
  dots_.reset();
  id_.reset();
  message_bytes_ = 0;
}

void SmtpServerDialogue::receive_data(std::string_view& bytes, Wire& wire) {
  while (true) {
    std::string_view piece;
    switch (dots_.next(bytes, piece)) {
      case mail::DotReader::Status::more:
        return;
      case mail::DotReader::Status::data:
        message_bytes_ += piece.size();
        id_.add(piece);
        break;
      case mail::DotReader::Status::end:
        return finish_message(wire);
    }
  }
}

void SmtpServerDialogue::finish_message(Wire& wire) {
  ++wire.replies;
  std::string_view verdict = "250 2.0.0 Ok: counted";
  bool deliverable = !is_lmtp();
  for (const bool full : full_) deliverable = deliverable || !full;
  if (message_bytes_ > settings_.size_max) {
    verdict = "552 5.3.4 Message too big";
  } else if (deliverable) {
    if (sink_.accept(id_.id(), message_bytes_))
      ++wire.messages;
    else
      verdict = "451 4.3.0 The ledger cannot be written";
  }
  if (is_lmtp()) {  // RFC 2033 4.2: one reply for each recipient that was accepted
    for (const bool full : full_) reply(full ? "452 4.2.2 Mailbox full" : verdict, wire);
  } else {
    reply(verdict, wire);
  }
  reset_transaction();
}

void SmtpServerDialogue::reset_transaction() {
  state_ = State::commands;
  mail_ = false;
  recipients_ = 0;
  full_.clear();
  id_.reset();
}

void SmtpServerDialogue::on_auth(std::string_view argument, Wire& wire) {
  if (!takes_auth()) return error("502 5.5.1 AUTH is for submission", wire);
  if (!hello_) return error("503 5.5.1 Say EHLO first", wire);
  if (authenticated_) return error("503 5.5.1 Already authenticated", wire);
  if (mail_) return error("503 5.5.1 A transaction is under way", wire);
  const std::string_view mechanism = take_word(argument);
  if (same_word(mechanism, "PLAIN")) {
    state_ = State::auth_plain;
    if (argument.empty()) return reply("334 ", wire);
    return on_auth_line(argument, wire);
  }
  if (same_word(mechanism, "LOGIN")) {
    state_ = State::auth_user;
    if (argument.empty()) return reply("334 VXNlcm5hbWU6", wire);
    return on_auth_line(argument, wire);
  }
  error("504 5.5.4 PLAIN or LOGIN", wire);
}

void SmtpServerDialogue::on_auth_line(std::string_view line, Wire& wire) {
  const State awaited = state_;
  state_ = State::commands;
  if (line == "*") return error("501 5.7.0 Authentication cancelled", wire);
  const auto decoded = decode_base64(line == "=" ? "" : line);
  if (!decoded) return error("501 5.5.2 Not base64", wire);
  if (awaited == State::auth_user) {
    state_ = State::auth_password;
    return reply("334 UGFzc3dvcmQ6", wire);
  }
  if (awaited == State::auth_password) return check_login(*decoded, wire);
  const auto credentials = parse_sasl_plain(*decoded);
  if (!credentials) return error("501 5.5.2 Not a PLAIN response", wire);
  check_login(credentials->password, wire);
}

void SmtpServerDialogue::check_login(std::string_view password, Wire& wire) {
  if (!settings_.password.empty() && password != settings_.password) {
    return error("535 5.7.8 Authentication credentials invalid", wire);
  }
  authenticated_ = true;
  reply("235 2.7.0 Authentication successful", wire);
}

}  // namespace poise::loadgen
