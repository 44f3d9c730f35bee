#include "loadgen/client/dialogue.h"

#include "loadgen/client/imap_dialogue.h"
#include "loadgen/client/pop3_dialogue.h"
#include "loadgen/client/smtp_dialogue.h"
#include "poise/check.h"

namespace poise::loadgen {

std::unique_ptr<ClientDialogue> make_client_dialogue(const Script& script, MessageMaker& messages,
                                                     std::uint64_t session) {
  switch (script.protocol) {
    case Protocol::smtp:
    case Protocol::submission:
    case Protocol::lmtp:
      return std::make_unique<SmtpClientDialogue>(script, messages);
    case Protocol::imap:
      return std::make_unique<ImapClientDialogue>(script, session);
    case Protocol::pop3:
      return std::make_unique<Pop3ClientDialogue>(script, session);
    case Protocol::smtps:
    case Protocol::imaps:
    case Protocol::pop3s:
    case Protocol::managesieve:
    case Protocol::tcp:
      break;
  }
  CHECK(false);  // the command line refuses these
}

}  // namespace poise::loadgen
