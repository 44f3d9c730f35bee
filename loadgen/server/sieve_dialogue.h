#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "loadgen/server/dialogue.h"
#include "loadgen/server/imap_command.h"

namespace poise::loadgen {

/// ManageSieve as a server speaks it (RFC 5804): its strings and literals are IMAP's. Scripts are
/// taken unread and last for the session.
class SieveServerDialogue : public ServerDialogue {
 public:
  explicit SieveServerDialogue(const ServerSettings& settings) : settings_(settings) {}

  void greet(std::string_view text, Wire& wire) override;
  void receive(std::string_view& bytes, Wire& wire) override;
  void secured(Wire& wire) override;
  void time_out(Wire& wire) override;

 private:
  static constexpr unsigned kMaxErrors = 20;
  static constexpr std::size_t kMaxScripts = 16;  ///< of at most ImapCommandReader::kMaxKeptBytes

  using Tokens = std::span<const ImapToken>;

  void on_literal(Wire& wire);
  void on_command(Wire& wire);
  bool on_any_state(std::string_view verb, Tokens arguments, Wire& wire);
  bool on_logged_in(std::string_view verb, Tokens arguments, Wire& wire);
  void on_authenticate(Tokens arguments, Wire& wire);
  void finish_login(std::string_view response, Wire& wire);
  void put_script(Tokens arguments, Wire& wire);
  void list_scripts(Wire& wire);

  void capabilities(Wire& wire);
  void reply(std::string_view line, Wire& wire);
  void error(std::string_view text, Wire& wire);

  const ServerSettings& settings_;
  ImapCommandReader reader_;
  bool secured_ = false;
  bool logged_in_ = false;
  bool awaits_response_ = false;  ///< AUTHENTICATE came without the client's words
  bool too_big_ = false;          ///< a literal of this command is being thrown away
  std::map<std::string, std::string, std::less<>> scripts_;
  std::string active_;
  unsigned errors_ = 0;
};

}  // namespace poise::loadgen
