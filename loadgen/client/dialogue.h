#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "loadgen/client/message.h"
#include "loadgen/loop/output.h"
#include "loadgen/report/failure.h"
#include "poise/protocol.h"

namespace poise::loadgen {

/// What a client's dialogue gives to whoever drives it.
struct ClientWire {
  Output out;
  std::string accepted;  ///< ids that got their 250 since the driver last looked, one a line
  unsigned submits = 0;  ///< how many those are
  unsigned fetches = 0;  ///< messages read whole since the driver last looked
};

/// One client-side conversation, one session long: bytes in, bytes out; no socket, no clock.
class ClientDialogue {
 public:
  enum class State : std::uint8_t {
    greeting,  ///< the server's greeting is not complete
    talking,
    done,    ///< goodbye said and answered
    failed,  ///< see failure()
  };

  virtual ~ClientDialogue() = default;

  virtual void receive(std::string_view bytes, ClientWire& wire) = 0;

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] Failure failure() const { return failure_; }
  /// The code of the reply that failed it ("452", "NO"); empty when it was no reply.
  [[nodiscard]] const std::string& code() const { return code_; }
  /// By which name the server greeted; empty before, and when it gave none.
  [[nodiscard]] const std::string& server_name() const { return server_name_; }
  /// The session has failed already, and only the goodbye is left: whatever ends the connection now
  /// is not the cause.
  [[nodiscard]] bool is_leaving() const { return failure_ != Failure::none; }

 protected:
  void note_failure(Failure failure, std::string code) {
    if (failure_ != Failure::none) return;  // the first one is the cause
    failure_ = failure;
    code_ = std::move(code);
  }
  void fail(Failure failure, std::string code = {}) {
    note_failure(failure, std::move(code));
    state_ = State::failed;
  }

  State state_ = State::greeting;
  std::string server_name_;

 private:
  Failure failure_ = Failure::none;
  std::string code_;
};

/// What the sessions of a run say.
struct Script {
  Protocol protocol = Protocol::smtp;
  bool connect_only = false;  ///< greeting, goodbye
  std::string helo = "poise-load.test";
  std::string sender = "sender@poise-load.test";
  std::string recipient = "user@poise-load.test";
  unsigned recipients = 1;  ///< a message; the first is `recipient`, the others are numbered
  unsigned messages = 1;    ///< a session
  bool pipelining = false;  ///< MAIL, RCPT and DATA in one go (RFC 2920)
  std::string user = "user";
  std::string password = "secret";
};

/// smtp, submission, lmtp, imap or pop3. The references must outlive the dialogue. `session` is its
/// number in the run.
std::unique_ptr<ClientDialogue> make_client_dialogue(const Script& script, MessageMaker& messages,
                                                     std::uint64_t session);

}  // namespace poise::loadgen
