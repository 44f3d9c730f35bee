#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "health/dialogue.h"
#include "poise/result.h"

namespace poise::health {

/// Sends and expects what the script says. An expected text may stand anywhere in what came since
/// the last match; kMaxReplyBytes without it are garbage.
class ScriptDialogue final : public Dialogue {
 public:
  using Dialogue::Dialogue;

 private:
  void on_start() override { go_on(); }
  void consume(std::string_view& bytes) override;
  void on_line(std::string_view) override {}
  [[nodiscard]] std::string_view unfinished() const override { return received_; }
  void after_greeting() override { leave(); }
  [[nodiscard]] std::string_view goodbye() const override { return {}; }
  [[nodiscard]] Protocol protocol() const override { return Protocol::tcp; }
  void go_on();

  std::size_t next_ = 0;  ///< step to take
  std::string received_;  ///< since the last match
};

/// "send:QUIT\r\n" or "expect:220 "; \r \n \t \\ and \xNN are understood. The error says what is
/// wrong.
Result<ScriptStep> parse_script_step(std::string_view text);

}  // namespace poise::health
