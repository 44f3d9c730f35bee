#include "loadgen/client/dialogue.h"

#include "loadgen/client/imap_dialogue.h"
#include "loadgen/client/pop3_dialogue.h"
#include "loadgen/client/sieve_dialogue.h"
#include "loadgen/client/smtp_dialogue.h"
#include "poise/check.h"

namespace poise::loadgen {

std::unique_ptr<ClientDialogue> make_client_dialogue(const Script& script, MessageMaker& messages,
                                                     std::uint64_t session, Remainder remainder) {
  switch (script.protocol) {
    case Protocol::smtp:
    case Protocol::submission:
    case Protocol::smtps:
    case Protocol::lmtp:
      return std::make_unique<SmtpClientDialogue>(script, messages, session, std::move(remainder));
    case Protocol::imap:
    case Protocol::imaps:
      return std::make_unique<ImapClientDialogue>(script, messages, session);
    case Protocol::pop3:
    case Protocol::pop3s:
      return std::make_unique<Pop3ClientDialogue>(script, session);
    case Protocol::managesieve:
      return std::make_unique<SieveClientDialogue>(script, session);
    case Protocol::tcp:
      break;
  }
  CHECK(false);  // the command line refuses it
}

}  // namespace poise::loadgen
