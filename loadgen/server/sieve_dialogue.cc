#include "loadgen/server/sieve_dialogue.h"

#include <fmt/format.h>

#include "loadgen/text/words.h"

namespace poise::loadgen {
namespace {

bool is_string(const ImapToken& token) {
  return token.kind == ImapToken::Kind::string;
}

}  // namespace

void SieveServerDialogue::reply(std::string_view line, Wire& wire) {
  wire.out.append(line);
  wire.out.append("\r\n");
}

void SieveServerDialogue::error(std::string_view text, Wire& wire) {
  reply(fmt::format("NO \"{}\"", text), wire);
  if (++errors_ < kMaxErrors) return;
  reply("BYE \"Too many errors\"", wire);
  wire.close = true;
}

void SieveServerDialogue::capabilities(Wire& wire) {
  reply(fmt::format("\"IMPLEMENTATION\" \"{}\"", settings_.name), wire);
  reply("\"SIEVE\" \"fileinto\"", wire);
  reply("\"SASL\" \"PLAIN\"", wire);
  if (settings_.tls && !secured_) reply("\"STARTTLS\"", wire);
  reply("\"VERSION\" \"1.0\"", wire);
}

void SieveServerDialogue::greet(std::string_view text, Wire& wire) {
  if (text.empty()) {
    capabilities(wire);
    return reply(fmt::format("OK \"{} ready.\"", settings_.name), wire);
  }
  reply(text, wire);
  if (!starts_with_word(text, "OK") && !text.starts_with('"')) wire.close = true;
}

void SieveServerDialogue::secured(Wire& wire) {
  reader_ = {};
  secured_ = true;
  capabilities(wire);  // RFC 5804 2.2: once more, unasked
  reply("OK \"TLS is on.\"", wire);
}

void SieveServerDialogue::time_out(Wire& wire) {
  reply("BYE \"Idle for too long\"", wire);
  wire.close = true;
}

void SieveServerDialogue::receive(std::string_view& bytes, Wire& wire) {
  while (!bytes.empty() && !wire.full()) {
    std::string_view piece;
    switch (reader_.next(bytes, piece)) {
      case ImapCommandReader::Status::more:
        return;
      case ImapCommandReader::Status::literal:
        on_literal(wire);
        break;
      case ImapCommandReader::Status::piece:
        break;  // of one that is too big
      case ImapCommandReader::Status::malformed:
        ++wire.replies;
        error("Command not understood", wire);
        break;
      case ImapCommandReader::Status::command:
        if (reader_.tokens().empty()) break;  // an empty line
        ++wire.replies;
        on_command(wire);
        break;
    }
  }
}

void SieveServerDialogue::on_literal(Wire& wire) {
  if (reader_.literal_waits()) {  // RFC 5804 1.2: clients send {n+} only
    reader_.abandon();
    ++wire.replies;
    return error("A client's literal is written {n+}", wire);
  }
  if (reader_.keep_literal()) return;
  too_big_ = true;
  reader_.stream_literal();  // it is on its way
}

void SieveServerDialogue::on_command(Wire& wire) {
  if (too_big_) {
    too_big_ = awaits_response_ = false;
    return reply("NO (QUOTA/MAXSIZE) \"Too big\"", wire);
  }
  const Tokens tokens = reader_.tokens();
  if (awaits_response_) return finish_login(tokens[0].text, wire);
  const std::string_view verb = tokens[0].text;
  const Tokens arguments = tokens.subspan(1);
  if (on_any_state(verb, arguments, wire)) return;
  if (!logged_in_) return error("Log in first", wire);
  if (!on_logged_in(verb, arguments, wire)) error("Command or its arguments not understood", wire);
}

bool SieveServerDialogue::on_any_state(std::string_view verb, Tokens arguments, Wire& wire) {
  if (same_word(verb, "LOGOUT")) {
    reply("OK \"Bye\"", wire);
    wire.goodbye = wire.close = true;
  } else if (same_word(verb, "CAPABILITY")) {
    capabilities(wire);
    reply("OK \"That is all\"", wire);
  } else if (same_word(verb, "NOOP")) {
    if (arguments.empty())
      reply("OK \"Done\"", wire);
    else
      reply(fmt::format("OK (TAG {}) \"Done\"", imap_quoted(arguments[0].text)), wire);
  } else if (same_word(verb, "STARTTLS")) {
    if (!settings_.tls || secured_) {
      error("TLS is not offered, or on already", wire);
      return true;
    }
    reply("OK \"Begin TLS\"", wire);
    wire.start_tls = true;
  } else if (same_word(verb, "AUTHENTICATE")) {
    on_authenticate(arguments, wire);
  } else {
    return false;
  }
  return true;
}

void SieveServerDialogue::on_authenticate(Tokens arguments, Wire& wire) {
  if (logged_in_) return error("Logged in already", wire);
  if (arguments.empty() || !same_word(arguments[0].text, "PLAIN")) return error("Only PLAIN", wire);
  if (arguments.size() > 1) return finish_login(arguments[1].text, wire);
  awaits_response_ = true;
  reply("\"\"", wire);
}

void SieveServerDialogue::finish_login(std::string_view response, Wire& wire) {
  awaits_response_ = false;
  const auto decoded = decode_base64(response);
  const auto credentials = decoded ? parse_sasl_plain(*decoded) : std::nullopt;
  if (!credentials) return error("No SASL PLAIN response", wire);
  if (!settings_.password.empty() && credentials->password != settings_.password)
    return error("Wrong password", wire);
  logged_in_ = true;
  reply("OK \"Logged in.\"", wire);
}

bool SieveServerDialogue::on_logged_in(std::string_view verb, Tokens arguments, Wire& wire) {
  for (const ImapToken& argument : arguments) {
    const bool is_size = same_word(verb, "HAVESPACE") && &argument == &arguments.back();
    if (!is_string(argument) && !is_size) return false;
  }
  const std::size_t count = arguments.size();
  const std::string_view name = count > 0 ? std::string_view(arguments[0].text) : "";
  const auto script = scripts_.find(name);
  if (same_word(verb, "LISTSCRIPTS") && count == 0) {
    list_scripts(wire);
  } else if (same_word(verb, "PUTSCRIPT") && count == 2) {
    put_script(arguments, wire);
  } else if (same_word(verb, "CHECKSCRIPT") && count == 1) {
    reply("OK \"Taken as it is\"", wire);
  } else if (same_word(verb, "HAVESPACE") && count == 2) {
    const auto bytes = parse_number(arguments[1].text);
    if (!bytes) return false;
    reply(*bytes <= ImapCommandReader::kMaxKeptBytes ? "OK \"It fits\""
                                                     : "NO (QUOTA/MAXSIZE) \"Too big\"",
          wire);
  } else if (same_word(verb, "SETACTIVE") && count == 1) {
    if (!name.empty() && script == scripts_.end()) {
      reply("NO (NONEXISTENT) \"No such script\"", wire);
      return true;
    }
    active_ = name;
    reply("OK \"Done\"", wire);
  } else if ((same_word(verb, "GETSCRIPT") || same_word(verb, "DELETESCRIPT")) && count == 1) {
    if (script == scripts_.end()) {
      reply("NO (NONEXISTENT) \"No such script\"", wire);
    } else if (same_word(verb, "GETSCRIPT")) {
      wire.out.append(fmt::format("{{{}}}\r\n{}\r\n", script->second.size(), script->second));
      reply("OK \"Done\"", wire);
    } else if (name == active_) {
      reply("NO (ACTIVE) \"The active script stays\"", wire);
    } else {
      scripts_.erase(script);
      reply("OK \"Done\"", wire);
    }
  } else {
    return false;
  }
  return true;
}

void SieveServerDialogue::put_script(Tokens arguments, Wire& wire) {
  const std::string& name = arguments[0].text;
  if (name.empty()) return error("A script has a name", wire);
  if (!scripts_.contains(name) && scripts_.size() >= kMaxScripts)
    return reply("NO (QUOTA/MAXSCRIPTS) \"Too many scripts\"", wire);
  scripts_[name] = arguments[1].text;
  reply("OK \"Done\"", wire);
}

void SieveServerDialogue::list_scripts(Wire& wire) {
  for (const auto& [name, text] : scripts_)
    reply(fmt::format("{}{}", imap_quoted(name), name == active_ ? " ACTIVE" : ""), wire);
  reply("OK \"That is all\"", wire);
}

}  // namespace poise::loadgen
