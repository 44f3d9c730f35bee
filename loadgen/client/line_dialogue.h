#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "loadgen/client/dialogue.h"
#include "mail/line_reader.h"

namespace poise::loadgen {

/// What IMAP, POP3 and ManageSieve clients have in common: answers in lines, one command at a time,
/// [TLS,] a login, the script's actions, a goodbye.
class LineClientDialogue : public ClientDialogue {
 public:
  void receive(std::string_view bytes, ClientWire& wire) override;
  void secured(ClientWire& wire) override;
  void resume(ClientWire& wire) override;

 protected:
  /// How the protocol says what all three can say.
  struct Words {
    std::string_view starttls;
    std::string_view goodbye;
    std::size_t line_bytes_max;
  };

  LineClientDialogue(const Script& script, std::uint64_t session, const Words& words)
      : script_(script), session_(session), words_(words), lines_(words.line_bytes_max) {}

  virtual void on_line(std::string_view line, ClientWire& wire) = 0;
  /// Takes what comes before the next line from the front of `bytes` (a literal, a message); false
  /// when its end has not come yet.
  virtual bool take_body(std::string_view&, ClientWire&) { return true; }
  virtual void say_login(ClientWire& wire) = 0;
  /// An action that is not said the same each time. False when there is nothing to be asked: the
  /// next action then.
  virtual bool perform(const Action&, ClientWire&) { return false; }
  /// What stands before each command.
  virtual std::string prefix() { return {}; }

  /// The server has greeted well.
  void begin(ClientWire& wire);
  void log_in(ClientWire& wire);
  void next_action(ClientWire& wire);
  /// What came before the TLS handshake does not count.
  void forget_input() { lines_ = mail::LineReader(words_.line_bytes_max); }
  void ask(Command command, std::string_view line, ClientWire& wire);
  void say_goodbye(ClientWire& wire) { ask(Command::quit, words_.goodbye, wire); }
  /// The goodbye was answered.
  void finish(ClientWire& wire);
  void fail_with_junk() {
    fail(state_ == State::greeting ? Failure::greeting_junk : Failure::junk);
  }

  const Script& script_;
  const std::uint64_t session_;
  Command command_ = Command::greeting;  ///< the one that awaits its answer
  bool waiting_ = false;                 ///< between two commands: nothing is asked

 private:
  bool say_plain(const Action& action, ClientWire& wire);

  const Words words_;
  mail::LineReader lines_;
  std::size_t next_ = 0;  ///< of the script's actions
};

}  // namespace poise::loadgen
