#pragma once

#include <string>
#include <string_view>

#include "health/dialogue.h"

namespace poise::health {

/// POP3 (RFC 1939, 2449, 2595): the greeting, then as asked for CAPA, STLS, USER and PASS, STAT;
/// QUIT.
class Pop3Dialogue final : public Dialogue {
 public:
  using Dialogue::Dialogue;

 private:
  enum class State : std::uint8_t { greeting, capa, capa_list, stls, user, pass, stat, quit };

  void on_line(std::string_view line) override;
  void after_greeting() override;
  void on_tls() override;
  [[nodiscard]] std::string_view goodbye() const override { return "QUIT"; }
  [[nodiscard]] Protocol protocol() const override { return Protocol::pop3; }

  void on_status(bool yes, std::string_view line);
  void after_capabilities();
  void log_in();
  void take_leave();

  State state_ = State::greeting;
  bool capabilities_known_ = false;
  bool offers_stls_ = false;
};

}  // namespace poise::health
