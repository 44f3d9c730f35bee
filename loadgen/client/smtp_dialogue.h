#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "loadgen/client/dialogue.h"
#include "mail/reply.h"

namespace poise::loadgen {

/// An SMTP, submission or LMTP client: greeting, EHLO, [AUTH,] messages, QUIT. One command at a
/// time unless pipelining is asked for. A refused step ends the session politely, with QUIT.
class SmtpClientDialogue : public ClientDialogue {
 public:
  SmtpClientDialogue(const Script& script, MessageMaker& messages)
      : script_(script), messages_(messages) {}
  void receive(std::string_view bytes, ClientWire& wire) override;

 private:
  enum class Step : std::uint8_t { greeting, hello, auth, mail, rcpt, data, body, quit };

  void on_reply(ClientWire& wire);
  void on_greeting(ClientWire& wire);
  void on_body_reply(ClientWire& wire);
  void begin_message(ClientWire& wire);
  void send_rcpt(ClientWire& wire);
  void send_body(ClientWire& wire);
  void send_quit(ClientWire& wire);
  void give_up(ClientWire& wire);
  void say(std::string_view line, ClientWire& wire);
  [[nodiscard]] bool is_lmtp() const { return script_.protocol == Protocol::lmtp; }

  const Script& script_;
  MessageMaker& messages_;
  mail::ReplyReader replies_;
  Step step_ = Step::greeting;
  unsigned recipients_sent_ = 0;  ///< RCPTs on their way or answered
  unsigned recipients_answered_ = 0;
  unsigned body_replies_ = 0;  ///< LMTP: of this message
  unsigned messages_left_ = 0;
  std::string id_;
};

}  // namespace poise::loadgen
