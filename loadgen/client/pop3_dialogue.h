#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loadgen/client/line_dialogue.h"
#include "mail/dot_stuffing.h"

namespace poise::loadgen {

/// A POP3 client: [STLS,] USER, PASS, the script's actions, QUIT. What is not there (the mailbox is
/// empty, or all of it deleted) is not asked for, which is no failure.
class Pop3ClientDialogue : public LineClientDialogue {
 public:
  Pop3ClientDialogue(const Script& script, std::uint64_t session)
      : LineClientDialogue(script, session, kWords), cursor_(session) {}

 private:
  static constexpr Words kWords{"STLS", "QUIT", 8192};

  void on_line(std::string_view line, ClientWire& wire) override;
  bool take_body(std::string_view& bytes, ClientWire& wire) override;
  void say_login(ClientWire& wire) override;
  bool perform(const Action& action, ClientWire& wire) override;
  bool pick();

  mail::DotReader dots_;
  bool in_body_ = false;  ///< the lines of a multi-line answer are coming
  std::uint64_t count_ = 0;
  std::uint64_t cursor_;      ///< which message comes next, modulo how many there are
  std::uint64_t picked_ = 0;  ///< the message retrieved last; 0: none that could be deleted
  std::vector<std::uint64_t> deleted_;
};

}  // namespace poise::loadgen
