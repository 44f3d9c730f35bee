#pragma once

#include <string>
#include <string_view>

#include "health/dialogue/literal.h"

namespace poise::health {

/// IMAP (RFC 9051, 3501): the greeting (OK, PREAUTH or BYE), then as asked for CAPABILITY, STARTTLS
/// and CAPABILITY again, AUTHENTICATE PLAIN or LOGIN, NOOP; LOGOUT.
class ImapDialogue final : public LiteralDialogue {
 public:
  using LiteralDialogue::LiteralDialogue;

 private:
  enum class State : std::uint8_t { greeting, capability, starttls, login, noop, logout };

  void on_logical_line(std::string_view line) override;
  void after_greeting() override;
  void on_tls() override;
  [[nodiscard]] std::string_view goodbye() const override { return "zz LOGOUT"; }
  [[nodiscard]] Protocol protocol() const override { return Protocol::imap; }

  void judge_greeting(std::string_view line);
  void on_tagged(std::string_view words, std::string_view line);
  void command(State state, std::string_view step, std::string_view words,
               std::string_view shown = {});
  void ask_capabilities();
  void after_capabilities();
  void log_in();
  void after_login();
  void log_out();

  State state_ = State::greeting;
  std::string tag_;
  unsigned commands_ = 0;
  std::string capabilities_;  ///< as a line of words
  bool preauth_ = false;
  bool secret_awaited_ = false;  ///< AUTHENTICATE without initial response: "+" asks for it
};

}  // namespace poise::health
