#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loadgen/client/dialogue.h"
#include "mail/dot_stuffing.h"
#include "mail/line_reader.h"

namespace poise::loadgen {

/// A POP3 client: [STLS,] USER, PASS, the script's actions, QUIT. What is not there (the mailbox is
/// empty, or all of it deleted) is not asked for, which is no failure.
class Pop3ClientDialogue : public ClientDialogue {
 public:
  Pop3ClientDialogue(const Script& script, std::uint64_t session)
      : script_(script), session_(session), cursor_(session) {}
  void receive(std::string_view bytes, ClientWire& wire) override;
  void secured(ClientWire& wire) override;
  void resume(ClientWire& wire) override;

 private:
  static constexpr std::size_t kMaxLineBytes = 8192;

  void on_status(std::string_view line, ClientWire& wire);
  void after_body(ClientWire& wire);
  void next_action(ClientWire& wire);
  void log_in(ClientWire& wire);
  bool pick();
  void command(Command command, std::string_view line, ClientWire& wire);

  const Script& script_;
  std::uint64_t session_;
  mail::LineReader lines_{kMaxLineBytes};
  mail::DotReader dots_;
  Command command_ = Command::greeting;
  std::size_t next_ = 0;  ///< of the script's actions
  bool waiting_ = false;
  bool in_body_ = false;  ///< the lines of a multi-line answer are coming
  std::uint64_t count_ = 0;
  std::uint64_t cursor_;      ///< which message comes next, modulo how many there are
  std::uint64_t picked_ = 0;  ///< the message retrieved last; 0: none that could be deleted
  std::vector<std::uint64_t> deleted_;
};

}  // namespace poise::loadgen
