#include "loadgen/server/dialogue.h"

#include <fmt/format.h>

#include "loadgen/server/imap_dialogue.h"
#include "loadgen/server/pop3_dialogue.h"
#include "loadgen/server/smtp_dialogue.h"
#include "poise/check.h"

namespace poise::loadgen {

std::unique_ptr<ServerDialogue> make_server_dialogue(const ServerSettings& settings,
                                                     const Mailbox& mailbox, MessageSink& sink) {
  switch (settings.protocol) {
    case Protocol::smtp:
    case Protocol::submission:
    case Protocol::lmtp:
    case Protocol::smtps:
      return std::make_unique<SmtpServerDialogue>(settings, sink);
    case Protocol::imap:
    case Protocol::imaps:
      return std::make_unique<ImapServerDialogue>(settings, mailbox, sink);
    case Protocol::pop3:
    case Protocol::pop3s:
      return std::make_unique<Pop3ServerDialogue>(settings, mailbox);
    case Protocol::managesieve:
    case Protocol::tcp:
      break;
  }
  CHECK(false);  // the command line refuses these
}

std::string refusal_greeting(Protocol protocol, std::string_view name, bool temporary) {
  if (protocol == Protocol::imap || protocol == Protocol::imaps)
    return fmt::format("* BYE [UNAVAILABLE] {} not available, try later", name);
  if (protocol == Protocol::pop3 || protocol == Protocol::pop3s)
    return fmt::format("-ERR [SYS/{}] {} not available", temporary ? "TEMP" : "PERM", name);
  return temporary ? fmt::format("421 4.3.2 {} Service not available, try later", name)
                   : fmt::format("554 5.7.1 {} No mail from you", name);
}

}  // namespace poise::loadgen
