#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "loadgen/loop/output.h"
#include "poise/protocol.h"

namespace poise::loadgen {

/// What a server's dialogue gives to whoever drives it.
struct Wire {
  Output out;
  bool close = false;      ///< after `out` is sent, close
  bool goodbye = false;    ///< the client took its leave in order (QUIT, LOGOUT)
  bool paced = false;      ///< set by the driver: stop after one message, a capacity limit applies
  bool start_tls = false;  ///< after `out` is sent, a handshake begins; then secured()
  unsigned messages = 0;   ///< accepted or served since the driver last looked
  unsigned served = 0;     ///< those of them that were handed out
  unsigned replies = 0;    ///< commands answered, in all

  void serve(unsigned count) {
    messages += count;
    served += count;
  }

  /// Take no further command: what is due must leave first. Bounds what a client that never reads
  /// can make us hold.
  [[nodiscard]] bool full() const {
    return close || start_tls || out.owned_size() > 65536 || (paced && messages > 0);
  }
};

/// One server-side conversation: bytes in, bytes out; no socket, no clock.
class ServerDialogue {
 public:
  virtual ~ServerDialogue() = default;

  /// What the server says first. `text` replaces the usual greeting; a refusing one (4yz, 5yz, BYE,
  /// -ERR) is honoured.
  virtual void greet(std::string_view text, Wire& wire) = 0;
  /// Takes bytes from the front; stops early when the wire is full. What it leaves is offered again
  /// later.
  virtual void receive(std::string_view& bytes, Wire& wire) = 0;
  /// The handshake that `start_tls` asked for is done, or was the first thing on the connection.
  virtual void secured(Wire& wire) = 0;
  /// Nothing has come for too long: say so in the protocol, and close.
  virtual void time_out(Wire& wire) = 0;
};

/// Told of every message that is taken in. When it returns false the message is refused for now
/// (the ledger's disk is full): nothing may be answered 250 that is not in the books.
class MessageSink {
 public:
  virtual ~MessageSink() = default;
  /// `id` is empty when the message carries none.
  virtual bool accept(std::string_view id, std::uint64_t bytes) = 0;
};

/// What all sessions of one server share.
struct ServerSettings {
  Protocol protocol = Protocol::smtp;
  std::string name = "poise-load";
  std::string password;  ///< empty: any is right
  std::uint64_t size_max = 64u << 20;
  bool tls = false;  ///< STARTTLS is offered
};

class Mailbox;

/// Any protocol but tcp. The references must outlive the dialogue.
std::unique_ptr<ServerDialogue> make_server_dialogue(const ServerSettings& settings,
                                                     const Mailbox& mailbox, MessageSink& sink);

/// The reply with which this protocol says "not now" (`temporary`) or "never": for faults.
std::string refusal_greeting(Protocol protocol, std::string_view name, bool temporary);

}  // namespace poise::loadgen
