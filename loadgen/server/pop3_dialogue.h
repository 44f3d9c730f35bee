#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loadgen/server/dialogue.h"
#include "loadgen/server/mailbox.h"
#include "mail/line_reader.h"

namespace poise::loadgen {

/// POP3 as a server speaks it (RFC 1939, 2449). Deletions last for the session: the next one sees
/// all messages again.
class Pop3ServerDialogue : public ServerDialogue {
 public:
  Pop3ServerDialogue(const ServerSettings& settings, const Mailbox& mailbox)
      : settings_(settings), mailbox_(mailbox) {}

  void greet(std::string_view text, Wire& wire) override;
  void receive(std::string_view& bytes, Wire& wire) override;
  void secured(Wire&) override { secured_ = true; }
  void time_out(Wire& wire) override;

 private:
  static constexpr std::size_t kMaxLineBytes = 1024;
  static constexpr unsigned kMaxErrors = 20;

  void on_line(std::string_view line, Wire& wire);
  void on_login(std::string_view verb, std::string_view argument, Wire& wire);
  void on_transaction(std::string_view verb, std::string_view argument, Wire& wire);
  void list(std::string_view verb, std::string_view argument, Wire& wire);
  void top(std::string_view argument, Wire& wire);
  /// The message that `argument` numbers; answers -ERR and returns nullptr when there is none or it
  /// is deleted.
  const Mailbox::Message* find(std::string_view argument, std::size_t& index, Wire& wire);

  void reply(std::string_view line, Wire& wire);
  void error(std::string_view line, Wire& wire);

  const ServerSettings& settings_;
  const Mailbox& mailbox_;
  mail::LineReader lines_{kMaxLineBytes};
  bool user_given_ = false;
  bool secured_ = false;
  bool logged_in_ = false;
  std::vector<bool> deleted_;
  unsigned errors_ = 0;
};

}  // namespace poise::loadgen
