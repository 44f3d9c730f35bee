#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "loadgen/client/dialogue.h"
#include "mail/dot_stuffing.h"
#include "mail/line_reader.h"

namespace poise::loadgen {

/// A POP3 client, the poller: USER, PASS, STAT, LIST, RETR of one message, QUIT. Nothing is
/// deleted.
class Pop3ClientDialogue : public ClientDialogue {
 public:
  Pop3ClientDialogue(const Script& script, std::uint64_t session)
      : script_(script), session_(session) {}
  void receive(std::string_view bytes, ClientWire& wire) override;

 private:
  static constexpr std::size_t kMaxLineBytes = 8192;
  enum class Step : std::uint8_t { greeting, user, pass, stat, list, retr, quit };

  void on_status(std::string_view line, ClientWire& wire);
  void after_body(ClientWire& wire);
  void command(Step step, std::string_view line, ClientWire& wire);

  const Script& script_;
  std::uint64_t session_;
  mail::LineReader lines_{kMaxLineBytes};
  mail::DotReader dots_;
  Step step_ = Step::greeting;
  bool in_body_ = false;  ///< the lines of a multi-line answer are coming
  std::uint64_t count_ = 0;
};

}  // namespace poise::loadgen
