#include "loadgen/server/dialogue.h"

#include <fmt/format.h>

#include "loadgen/server/imap_dialogue.h"
#include "loadgen/server/pop3_dialogue.h"
#include "loadgen/server/sieve_dialogue.h"
#include "loadgen/server/smtp_dialogue.h"
#include "poise/check.h"

namespace poise::loadgen {

std::unique_ptr<ServerDialogue> make_server_dialogue(const ServerSettings& settings,
                                                     const Mailbox& mailbox, MessageSink& sink) {
  switch (language_of(settings.protocol)) {
    case Language::smtp:
      return std::make_unique<SmtpServerDialogue>(settings, sink);
    case Language::imap:
      return std::make_unique<ImapServerDialogue>(settings, mailbox, sink);
    case Language::pop3:
      return std::make_unique<Pop3ServerDialogue>(settings, mailbox);
    case Language::managesieve:
      return std::make_unique<SieveServerDialogue>(settings);
    case Language::unknown:
      break;
  }
  CHECK(false);  // the command line refuses it
}

std::string refusal_greeting(Protocol protocol, std::string_view name, bool temporary) {
  if (language_of(protocol) == Language::imap)
    return fmt::format("* BYE [UNAVAILABLE] {} not available, try later", name);
  if (language_of(protocol) == Language::pop3)
    return fmt::format("-ERR [SYS/{}] {} not available", temporary ? "TEMP" : "PERM", name);
  if (protocol == Protocol::managesieve)
    return fmt::format("BYE {}\"{} not available\"", temporary ? "(TRYLATER) " : "", name);
  return temporary ? fmt::format("421 4.3.2 {} Service not available, try later", name)
                   : fmt::format("554 5.7.1 {} No mail from you", name);
}

}  // namespace poise::loadgen
