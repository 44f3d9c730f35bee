#pragma once

#include <string_view>

#include "health/dialogue.h"
#include "mail/reply.h"

namespace poise::health {

/// SMTP, submission and LMTP (RFC 5321, 6409, 2033): the greeting, then in the order asked for
/// EHLO (or HELO where EHLO is not known; LHLO in LMTP), STARTTLS and EHLO again, AUTH PLAIN, MAIL
/// FROM:<>, RCPT, RSET; QUIT. A 4yz to RCPT is the answer of a server that lives.
class SmtpDialogue final : public Dialogue {
 public:
  explicit SmtpDialogue(const ProbeRequest& request);

 private:
  enum class State : std::uint8_t { greeting, ehlo, helo, starttls, auth, mail, rcpt, rset, quit };

  void on_line(std::string_view line) override;
  void after_greeting() override;
  void on_tls() override;
  [[nodiscard]] std::string_view goodbye() const override { return "QUIT"; }
  [[nodiscard]] Protocol protocol() const override;

  void on_reply();
  void judge_greeting();
  void say_hello();
  void after_hello();
  void after_auth();
  void finish_politely();
  [[nodiscard]] bool wants_hello() const;
  void refused() { fail(ProbeOutcome::step_failed, words()); }
  [[nodiscard]] std::string words() const;

  mail::ReplyLines reply_;
  State state_ = State::greeting;
  bool lmtp_;
};

}  // namespace poise::health
