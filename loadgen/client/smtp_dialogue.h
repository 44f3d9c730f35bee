#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "loadgen/client/dialogue.h"
#include "mail/reply.h"

namespace poise::loadgen {

/// An SMTP, submission or LMTP client: greeting, EHLO, [STARTTLS, EHLO,] [AUTH,] the script's
/// actions, QUIT. One command at a time unless pipelining is asked for. A refused step ends the
/// session politely, with QUIT.
class SmtpClientDialogue : public ClientDialogue {
 public:
  SmtpClientDialogue(const Script& script, MessageMaker& messages, std::uint64_t session,
                     Remainder remainder)
      : script_(script), messages_(messages), session_(session), remainder_(std::move(remainder)) {}
  void receive(std::string_view bytes, ClientWire& wire) override;
  void secured(ClientWire& wire) override;
  void resume(ClientWire& wire) override;

 private:
  void on_reply(ClientWire& wire);
  void on_greeting(ClientWire& wire);
  void on_hello(ClientWire& wire);
  void on_recipient(ClientWire& wire);
  void on_body_reply(ClientWire& wire);
  void say_hello(ClientWire& wire);
  void next_action(ClientWire& wire);
  void begin_message(ClientWire& wire);
  void send_rcpt(ClientWire& wire);
  void send_body(ClientWire& wire);
  void send_quit(ClientWire& wire);
  void give_up(ClientWire& wire);
  void say(Command command, std::string_view line, ClientWire& wire);
  [[nodiscard]] bool is_lmtp() const { return script_.protocol == Protocol::lmtp; }

  const Script& script_;
  MessageMaker& messages_;
  std::uint64_t session_;
  Remainder remainder_;
  mail::ReplyReader replies_;
  Command step_ = Command::greeting;  ///< whose answer is the next one
  bool waiting_ = false;              ///< between two commands: nothing is asked
  bool secured_ = false;
  std::size_t next_ = 0;          ///< of the script's actions
  unsigned messages_begun_ = 0;   ///< of the script's, those done earlier included
  unsigned recipients_sent_ = 0;  ///< RCPTs on their way or answered
  unsigned recipients_answered_ = 0;
  unsigned body_replies_ = 0;  ///< LMTP: of this message
};

}  // namespace poise::loadgen
