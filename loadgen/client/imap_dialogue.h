#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "loadgen/client/line_dialogue.h"

namespace poise::loadgen {

/// An IMAP client: [STARTTLS,] LOGIN, the script's actions, LOGOUT. Literals are read past,
/// whatever their size. An empty mailbox has nothing to fetch, which is no failure.
class ImapClientDialogue : public LineClientDialogue {
 public:
  ImapClientDialogue(const Script& script, MessageMaker& messages, std::uint64_t session)
      : LineClientDialogue(script, session, kWords), messages_(messages), cursor_(session) {}
  void resume(ClientWire& wire) override;

 private:
  static constexpr Words kWords{"STARTTLS", "LOGOUT", 65536};

  void on_line(std::string_view line, ClientWire& wire) override;
  bool take_body(std::string_view& bytes, ClientWire& wire) override;
  void say_login(ClientWire& wire) override;
  bool perform(const Action& action, ClientWire& wire) override;
  std::string prefix() override;
  void on_greeting(std::string_view line, ClientWire& wire);
  void on_continuation(ClientWire& wire);
  void on_tagged(std::string_view result, ClientWire& wire);

  MessageMaker& messages_;
  unsigned tag_ = 0;
  Nanos idle_ = 0;  ///< how long to stay once the server says that it idles
  std::uint64_t literal_left_ = 0;
  bool continued_ = false;  ///< the next line goes on after a literal
  unsigned fetched_ = 0;    ///< literals in the answer to FETCH so far
  std::uint64_t exists_ = 0;
  std::uint64_t cursor_;  ///< which message is fetched next, modulo how many there are
  std::string header_;    ///< of the message to append
};

}  // namespace poise::loadgen
