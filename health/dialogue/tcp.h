#pragma once

#include <string_view>

#include "health/dialogue.h"

namespace poise::health {

/// A connection that comes about (and its TLS handshake, under TLS) is all that is asked. Says
/// nothing, so nothing can be learnt about a PROXY header.
class TcpDialogue final : public Dialogue {
 public:
  using Dialogue::Dialogue;

 private:
  void on_start() override {
    header_was_taken();
    greeting_is_good({});
  }
  void on_line(std::string_view) override {}
  void after_greeting() override { leave(); }
  [[nodiscard]] std::string_view goodbye() const override { return {}; }
  [[nodiscard]] Protocol protocol() const override { return Protocol::tcp; }
};

}  // namespace poise::health
