#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "loadgen/client/dialogue.h"
#include "mail/line_reader.h"

namespace poise::loadgen {

/// An IMAP client: [STARTTLS,] LOGIN, the script's actions, LOGOUT. Literals are read past,
/// whatever their size. An empty mailbox has nothing to fetch, which is no failure.
class ImapClientDialogue : public ClientDialogue {
 public:
  ImapClientDialogue(const Script& script, MessageMaker& messages, std::uint64_t session)
      : script_(script), messages_(messages), session_(session), cursor_(session) {}
  void receive(std::string_view bytes, ClientWire& wire) override;
  void secured(ClientWire& wire) override;
  void resume(ClientWire& wire) override;

 private:
  static constexpr std::size_t kMaxLineBytes = 65536;

  void on_line(std::string_view line, ClientWire& wire);
  void on_greeting(std::string_view line, ClientWire& wire);
  void on_continuation(ClientWire& wire);
  void on_tagged(std::string_view result, ClientWire& wire);
  void log_in(ClientWire& wire);
  void next_action(ClientWire& wire);
  void command(Command command, std::string_view text, ClientWire& wire);

  const Script& script_;
  MessageMaker& messages_;
  std::uint64_t session_;
  mail::LineReader lines_{kMaxLineBytes};
  Command command_ = Command::greeting;  ///< the one awaiting its tagged answer
  unsigned tag_ = 0;
  std::size_t next_ = 0;  ///< of the script's actions
  bool waiting_ = false;  ///< between two commands: nothing is asked
  Nanos idle_ = 0;        ///< how long to stay once the server says that it idles
  std::uint64_t literal_left_ = 0;
  bool continued_ = false;  ///< the next line goes on after a literal
  unsigned fetched_ = 0;    ///< literals in the answer to FETCH so far
  std::uint64_t exists_ = 0;
  std::uint64_t cursor_;  ///< which message is fetched next, modulo how many there are
  std::string header_;    ///< of the message to append
};

}  // namespace poise::loadgen
