#pragma once

#include <cstdint>
#include <string_view>

#include "loadgen/client/line_dialogue.h"

namespace poise::loadgen {

/// A ManageSieve client (RFC 5804): greeting with its capabilities, [STARTTLS, capabilities again,]
/// [AUTHENTICATE PLAIN,] NOOPs, LOGOUT.
class SieveClientDialogue : public LineClientDialogue {
 public:
  SieveClientDialogue(const Script& script, std::uint64_t session)
      : LineClientDialogue(script, session, kWords) {}
  void secured(ClientWire& wire) override;

 private:
  static constexpr Words kWords{"STARTTLS", "LOGOUT", 8192};

  void on_line(std::string_view line, ClientWire& wire) override;
  void on_ok(ClientWire& wire);
  void say_login(ClientWire& wire) override;
};

}  // namespace poise::loadgen
