#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "loadgen/loop/deadlines.h"
#include "loadgen/loop/poller.h"
#include "loadgen/loop/stop_signal.h"
#include "loadgen/server/dialogue.h"
#include "loadgen/server/faults.h"
#include "loadgen/server/intake.h"
#include "loadgen/server/mailbox.h"
#include "loadgen/server/schedule.h"
#include "net/fd.h"
#include "poise/address.h"
#include "poise/result.h"
#include "tls/context.h"
#include "tls/engine.h"

namespace poise::loadgen {

struct ServerSpec {
  Address listen;
  ServerSettings settings;
  Faults faults;
  bool proxy = false;  ///< every connection begins with a PROXY header
};

/// Several mail servers on one thread: accepts, moves bytes between sockets and dialogues, and
/// applies the faults. Ends on SIGINT, SIGTERM, or when every server has died of its fault.
class ServeLoop {
 public:
  /// `tls` is needed by servers that offer STARTTLS or speak implicit TLS. `events` happen in the
  /// order of their times.
  ServeLoop(std::vector<ServerSpec> specs, Mailbox mailbox, LedgerFile ledger, Nanos idle_timeout,
            std::shared_ptr<const tls::Context> tls = {}, std::vector<Event> events = {});
  ~ServeLoop();

  /// Binds and listens. Afterwards address() says which ports were given.
  Result<void> open();
  void run();

  [[nodiscard]] std::size_t size() const { return servers_.size(); }
  [[nodiscard]] const ServerSpec& spec(std::size_t server) const { return servers_[server]->spec; }
  [[nodiscard]] const ServerTally& tally(std::size_t server) const {
    return servers_[server]->tally;
  }
  [[nodiscard]] const Address& address(std::size_t server) const {
    return servers_[server]->address;
  }

 private:
  struct Server {
    ServerSpec spec;
    Address address;
    net::Fd listener;
    ServerTally tally;
    Intake intake;
    Nanos next_free = 0;  ///< capacity: when the next message may be done

    Server(ServerSpec spec_, Books& books) : spec(std::move(spec_)), intake(books, tally) {}
  };

  /// What a session's deadline is for.
  enum class Wait : std::uint8_t { idle, greeting, capacity, trickle, drained };

  struct Session {
    net::Fd fd;
    std::uint32_t slot = 0;
    std::uint32_t generation = 0;
    std::uint32_t server = 0;
    Wait wait = Wait::idle;
    bool readable = false;
    bool blocked = false;  ///< the socket takes no more for now
    bool hung_up = false;  ///< EPOLLRDHUP: read until the end, however short the reads
    unsigned drain_checks = 0;
    std::unique_ptr<ServerDialogue> dialogue;
    Wire wire;
    bool awaits_header = false;  ///< the PROXY header is not complete
    bool securing = false;       ///< the TLS handshake is under way
    std::unique_ptr<tls::Engine> tls;
    std::string ciphertext;  ///< on its way out
    std::size_t ciphertext_sent = 0;
    std::string pending;  ///< input the dialogue has not taken: its output is full
    Nanos active_at = 0;
  };

  void accept_from(std::uint32_t server);
  void pause_accepting(std::uint32_t server);
  void begin(std::uint32_t server, net::Fd fd);
  void greet_in_time(Session& session);
  void greet(Session& session);
  bool take_header(Session& session, std::string_view bytes);
  void begin_tls(Session& session);
  bool decrypt(Session& session, std::string_view bytes);
  std::size_t fill(Session& session, iovec* vectors, std::size_t count, std::size_t limit);
  void on_event(const Poller::Event& event);
  void on_deadline(std::uint32_t slot);
  void pump(Session& session);
  enum class Sent : std::uint8_t { all, not_yet, gone };
  Sent send_due(Session& session);
  enum class Got : std::uint8_t { some, nothing, gone };
  Got receive_some(Session& session);
  void feed(Session& session, std::string_view bytes);
  bool wants_reset(const Session& session) const;
  void reset_when_drained(Session& session);
  void wait_for(Session& session, Wait wait, Nanos deadline);
  void wait_idle(Session& session);
  void end(Session& session);
  void kill(std::uint32_t server);
  void happen(const Event& event);
  Result<void> listen(Server& server);
  static void word_refusal(Server& server);
  void schedule_next();

  // Slots of Tag and Deadlines: listeners, then the moments of their deaths, then the signal, then
  // the schedule, then sessions.
  [[nodiscard]] std::uint32_t death_slot(std::uint32_t server) const { return count() + server; }
  [[nodiscard]] std::uint32_t signal_slot() const { return 2 * count(); }
  [[nodiscard]] std::uint32_t schedule_slot() const { return 2 * count() + 1; }
  [[nodiscard]] std::uint32_t session_base() const { return 2 * count() + 2; }
  [[nodiscard]] std::uint32_t count() const { return static_cast<std::uint32_t>(servers_.size()); }

  Mailbox mailbox_;
  Books books_;
  Nanos idle_timeout_;
  std::shared_ptr<const tls::Context> tls_;
  std::vector<Event> events_;
  std::size_t next_event_ = 0;
  std::vector<std::unique_ptr<Server>> servers_;
  Poller poller_;
  Deadlines deadlines_;
  StopSignal stop_signal_;
  std::vector<std::unique_ptr<Session>> sessions_;
  std::vector<std::uint32_t> free_;  ///< indices into sessions_
  std::vector<char> buffer_;
  Nanos now_ = 0;
  Nanos began_ = 0;
  unsigned alive_ = 0;
  bool stopping_ = false;
};

}  // namespace poise::loadgen
