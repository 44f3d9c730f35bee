#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "loadgen/server/dialogue.h"
#include "loadgen/server/imap_command.h"
#include "loadgen/server/imap_view.h"
#include "loadgen/server/message_id.h"

namespace poise::loadgen {

/// IMAP4rev1 as a server speaks it, with one mailbox, INBOX (RFC 3501, LITERAL+, SASL-IR, IDLE,
/// UNSELECT, ID, NAMESPACE). APPENDed messages are counted and dropped like those that come by
/// SMTP; flags last for the session.
class ImapServerDialogue : public ServerDialogue {
 public:
  ImapServerDialogue(const ServerSettings& settings, const Mailbox& mailbox, MessageSink& sink)
      : settings_(settings), mailbox_(mailbox), sink_(sink) {}

  void greet(std::string_view text, Wire& wire) override;
  void receive(std::string_view& bytes, Wire& wire) override;
  void secured(Wire&) override { secured_ = true; }
  void time_out(Wire& wire) override;

 private:
  static constexpr unsigned kMaxErrors = 20;

  enum class Mode : std::uint8_t { commands, sasl, idle };
  using Tokens = std::span<const ImapToken>;

  void on_raw_line(std::string_view line, Wire& wire);
  void on_literal(Wire& wire);
  void on_command(Wire& wire);
  bool on_any_state(std::string_view verb, Wire& wire);
  bool on_logged_in(std::string_view verb, Tokens arguments, Wire& wire);
  bool on_selected(std::string_view verb, Tokens arguments, bool by_uid, Wire& wire);
  void on_login(Tokens arguments, Wire& wire);
  void on_authenticate(Tokens arguments, Wire& wire);
  void on_select(Tokens arguments, bool read_only, Wire& wire);
  void on_status(Tokens arguments, Wire& wire);
  void on_list(std::string_view verb, Tokens arguments, Wire& wire);
  void on_append(Wire& wire);
  void finish_login(std::string_view password, Wire& wire);
  void finish_sasl(std::string_view line, Wire& wire);

  [[nodiscard]] std::string capabilities() const;
  void untagged(std::string_view line, Wire& wire);
  void ok(std::string_view text, Wire& wire);
  void no(std::string_view text, Wire& wire);
  void bad(std::string_view text, Wire& wire);
  void answer(std::string_view word, std::string_view text, Wire& wire);

  const ServerSettings& settings_;
  const Mailbox& mailbox_;
  MessageSink& sink_;
  ImapCommandReader reader_;
  Mode mode_ = Mode::commands;
  std::string tag_;
  bool secured_ = false;
  bool logged_in_ = false;
  std::optional<ImapView> view_;
  bool appending_ = false;
  std::uint64_t append_bytes_ = 0;
  MessageIdFinder append_id_;
  unsigned errors_ = 0;
};

}  // namespace poise::loadgen
