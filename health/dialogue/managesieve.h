#pragma once

#include <string_view>

#include "health/dialogue/literal.h"

namespace poise::health {

/// ManageSieve (RFC 5804): the capabilities that are its greeting, then as asked for STARTTLS with
/// the capabilities again, AUTHENTICATE PLAIN or CAPABILITY; LOGOUT.
class ManageSieveDialogue final : public LiteralDialogue {
 public:
  using LiteralDialogue::LiteralDialogue;

 private:
  enum class State : std::uint8_t {
    greeting,
    starttls,
    tls_greeting,  ///< the server repeats its capabilities unasked
    capability,
    login,
    logout
  };

  void on_logical_line(std::string_view line) override;
  void after_greeting() override;
  void on_tls() override;
  [[nodiscard]] std::string_view goodbye() const override { return "LOGOUT"; }
  [[nodiscard]] Protocol protocol() const override { return Protocol::managesieve; }

  void on_capability(std::string_view line);
  void on_response(bool yes, std::string_view line);
  void after_tls();
  void take_leave();

  State state_ = State::greeting;
  bool offers_starttls_ = false;
  bool offers_plain_ = false;
};

}  // namespace poise::health
