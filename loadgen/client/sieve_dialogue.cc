#include "loadgen/client/sieve_dialogue.h"

#include <fmt/format.h>

#include "loadgen/text/words.h"

namespace poise::loadgen {

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
    return fail_with_junk();
  if (command_ == Command::tls) return fail(Failure::junk);
  wire.refuse(command_);
  note_failure(Failure::denied, "NO");
  say_goodbye(wire);
}

void SieveClientDialogue::on_ok(ClientWire& wire) {
  if (waiting_) return fail(Failure::junk);
  if (command_ == Command::greeting) return begin(wire);
  if (command_ == Command::tls) return log_in(wire);  // RFC 5804 2.2: capabilities again, unasked
  if (command_ == Command::quit) return finish(wire);
  wire.answer(command_);
  if (command_ == Command::starttls)
    wire.start_tls = true;
  else
    next_action(wire);
}

void SieveClientDialogue::secured(ClientWire&) {
  forget_input();
  command_ = Command::tls;
}

void SieveClientDialogue::say_login(ClientWire& wire) {
  if (!script_.auth) return next_action(wire);
  ask(Command::auth,
      fmt::format("AUTHENTICATE \"PLAIN\" \"{}\"",
                  base64_plain(login_name(script_, session_), script_.password)),
      wire);
}

}  // namespace poise::loadgen
