#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loadgen/server/dialogue.h"
#include "loadgen/server/message_id.h"
#include "mail/dot_stuffing.h"
#include "mail/line_reader.h"

namespace poise::loadgen {

/// SMTP, submission and LMTP as a server speaks them (RFC 5321, 2920, 1870, 2034, 4954, 2033).
/// Messages are counted and dropped. Some recipients have a meaning of their own: nosuch@ is
/// refused (550), defer@ for now (450), and full@ after the data in LMTP (452).
class SmtpServerDialogue : public ServerDialogue {
 public:
  SmtpServerDialogue(const ServerSettings& settings, MessageSink& sink)
      : settings_(settings), sink_(sink) {}

  void greet(std::string_view text, Wire& wire) override;
  void receive(std::string_view& bytes, Wire& wire) override;
  void secured(Wire& wire) override;
  void time_out(Wire& wire) override;

 private:
  static constexpr std::size_t kMaxLineBytes = 12288;  // RFC 4954 4: an AUTH line may be that long
  static constexpr std::size_t kMaxRecipients = 1000;
  static constexpr unsigned kMaxErrors = 20;

  enum class State : std::uint8_t {
    commands,
    data,           ///< until the final dot
    auth_plain,     ///< one line of base64 awaited
    auth_user,      ///< LOGIN: the user name awaited
    auth_password,  ///< LOGIN: the password awaited
    refused,        ///< greeted with a refusal: only QUIT is understood (RFC 5321 3.1)
  };

  void on_line(std::string_view line, Wire& wire);
  void on_command(std::string_view line, Wire& wire);
  void on_hello(std::string_view verb, std::string_view argument, Wire& wire);
  void on_mail(std::string_view argument, Wire& wire);
  void on_rcpt(std::string_view argument, Wire& wire);
  void on_data(Wire& wire);
  void on_starttls(Wire& wire);
  void on_auth(std::string_view argument, Wire& wire);
  void on_auth_line(std::string_view line, Wire& wire);
  void check_login(std::string_view password, Wire& wire);
  void receive_data(std::string_view& bytes, Wire& wire);
  void finish_message(Wire& wire);
  void reset_transaction();

  void reply(std::string_view line, Wire& wire);
  void error(std::string_view line, Wire& wire);
  [[nodiscard]] bool takes_auth() const { return is_submission(settings_.protocol); }
  [[nodiscard]] bool is_lmtp() const { return settings_.protocol == Protocol::lmtp; }

  const ServerSettings& settings_;
  MessageSink& sink_;
  mail::LineReader lines_{kMaxLineBytes};
  mail::DotReader dots_;
  MessageIdFinder id_;
  State state_ = State::commands;
  bool secured_ = false;
  bool hello_ = false;
  bool mail_ = false;
  bool authenticated_ = false;
  unsigned recipients_ = 0;
  std::vector<bool> full_;  ///< LMTP: by accepted recipient, whether its delivery is to fail
  unsigned errors_ = 0;
  std::uint64_t message_bytes_ = 0;
};

}  // namespace poise::loadgen
