#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "loadgen/client/dialogue.h"
#include "mail/line_reader.h"

namespace poise::loadgen {

/// An IMAP client: LOGIN, SELECT INBOX, FETCH of one message, LOGOUT. Literals are read past,
/// whatever their size.
class ImapClientDialogue : public ClientDialogue {
 public:
  ImapClientDialogue(const Script& script, std::uint64_t session)
      : script_(script), session_(session) {}
  void receive(std::string_view bytes, ClientWire& wire) override;

 private:
  static constexpr std::size_t kMaxLineBytes = 65536;
  enum class Step : std::uint8_t { greeting, login, select, fetch, logout };

  void on_line(std::string_view line, ClientWire& wire);
  void on_greeting(std::string_view line, ClientWire& wire);
  void on_tagged(std::string_view result, ClientWire& wire);
  void command(Step step, std::string_view text, ClientWire& wire);

  const Script& script_;
  std::uint64_t session_;
  mail::LineReader lines_{kMaxLineBytes};
  Step step_ = Step::greeting;
  std::uint64_t literal_left_ = 0;
  bool continued_ = false;  ///< the next line goes on after a literal
  std::uint64_t exists_ = 0;
  unsigned fetched_ = 0;  ///< literals seen in the answer to FETCH
};

}  // namespace poise::loadgen
