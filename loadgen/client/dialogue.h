#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "loadgen/client/message.h"
#include "loadgen/client/script.h"
#include "loadgen/loop/output.h"
#include "loadgen/report/command.h"
#include "loadgen/report/failure.h"

namespace poise::loadgen {

/// A command went out, or the oldest unanswered one was answered, as it should be or not.
struct CommandEvent {
  enum class Kind : std::uint8_t { asked, answered, refused };
  Kind kind;
  Command command;
};

/// What a client's dialogue gives to whoever drives it.
struct ClientWire {
  Output out;
  std::string accepted;  ///< ids that got their 250 since the driver last looked, one a line
  unsigned submits = 0;  ///< how many those are
  unsigned fetches = 0;  ///< messages read whole since the driver last looked
  std::vector<CommandEvent> events;  ///< since the driver last looked, in their order
  bool start_tls = false;            ///< the server is ready for a handshake; then secured()
  Nanos wait = 0;                    ///< above 0: be still for that long; then resume()

  void ask(Command command) { events.push_back({CommandEvent::Kind::asked, command}); }
  void answer(Command command) { events.push_back({CommandEvent::Kind::answered, command}); }
  void refuse(Command command) { events.push_back({CommandEvent::Kind::refused, command}); }
  void clear() {
    out.clear();
    accepted.clear();
    events.clear();
    submits = fetches = 0;
    start_tls = false;
    wait = 0;
  }
};

/// One client-side conversation, one connection long: bytes in, bytes out; no socket, no clock.
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
  /// The handshake that `start_tls` asked for is done.
  virtual void secured(ClientWire& wire) = 0;
  /// The time that `wait` asked for is over.
  virtual void resume(ClientWire& wire) = 0;

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] Failure failure() const { return failure_; }
  /// The code of the reply that failed it ("452", "NO"); empty when it was no reply.
  [[nodiscard]] const std::string& code() const { return code_; }
  /// By which name the server greeted; empty before, and when it gave none.
  [[nodiscard]] const std::string& server_name() const { return server_name_; }
  /// The message on its way whose fate is not known; empty when there is none.
  [[nodiscard]] const std::string& unconfirmed() const { return id_; }
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
  void accepted(ClientWire& wire) {
    wire.accepted += id_;
    wire.accepted += '\n';
    ++wire.submits;
    id_.clear();
  }

  State state_ = State::greeting;
  std::string server_name_;
  std::string id_;

 private:
  Failure failure_ = Failure::none;
  std::string code_;
};

/// What an earlier connection of the same session has left to do.
struct Remainder {
  unsigned messages_done = 0;
  std::string unconfirmed;  ///< sent again under the same id, as an MTA does
};

/// Any protocol but tcp. The references must outlive the dialogue. `session` is its number in the
/// run.
std::unique_ptr<ClientDialogue> make_client_dialogue(const Script& script, MessageMaker& messages,
                                                     std::uint64_t session,
                                                     Remainder remainder = {});

}  // namespace poise::loadgen
