#pragma once

#include <cstdint>
#include <string_view>

#include "loadgen/client/dialogue.h"
#include "mail/line_reader.h"

namespace poise::loadgen {

/// A ManageSieve client (RFC 5804): greeting with its capabilities, [STARTTLS, capabilities again,]
/// [AUTHENTICATE PLAIN,] NOOPs, LOGOUT.
class SieveClientDialogue : public ClientDialogue {
 public:
  SieveClientDialogue(const Script& script, std::uint64_t session)
      : script_(script), session_(session) {}
  void receive(std::string_view bytes, ClientWire& wire) override;
  void secured(ClientWire& wire) override;
  void resume(ClientWire& wire) override;

 private:
  static constexpr std::size_t kMaxLineBytes = 8192;

  void on_line(std::string_view line, ClientWire& wire);
  void on_ok(ClientWire& wire);
  void log_in(ClientWire& wire);
  void next_action(ClientWire& wire);
  void command(Command command, std::string_view line, ClientWire& wire);

  const Script& script_;
  std::uint64_t session_;
  mail::LineReader lines_{kMaxLineBytes};
  Command command_ = Command::greeting;
  std::size_t next_ = 0;  ///< of the script's actions
  bool waiting_ = false;
};

}  // namespace poise::loadgen
