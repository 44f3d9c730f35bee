#include "loadgen/client/dialogue.h"

#include "loadgen/client/imap_dialogue.h"
#include "loadgen/client/pop3_dialogue.h"
#include "loadgen/client/sieve_dialogue.h"
#include "loadgen/client/smtp_dialogue.h"
#include "poise/check.h"

namespace poise::loadgen {

std::unique_ptr<ClientDialogue> make_client_dialogue(const Script& script, MessageMaker& messages,
                                                     std::uint64_t session, Remainder remainder) {
  switch (language_of(script.protocol)) {
    case Language::smtp:
      return std::make_unique<SmtpClientDialogue>(script, messages, session, std::move(remainder));
    case Language::imap:
      return std::make_unique<ImapClientDialogue>(script, messages, session);
    case Language::pop3:
      return std::make_unique<Pop3ClientDialogue>(script, session);
    case Language::managesieve:
      return std::make_unique<SieveClientDialogue>(script, session);
    case Language::unknown:
      break;
  }
  CHECK(false);  // the command line refuses it
}

}  // namespace poise::loadgen
