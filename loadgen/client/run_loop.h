#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <vector>

#include "loadgen/client/dialogue.h"
#include "loadgen/client/message.h"
#include "loadgen/client/plan.h"
#include "loadgen/ledger/ledger_file.h"
#include "loadgen/loop/deadlines.h"
#include "loadgen/loop/poller.h"
#include "loadgen/loop/stop_signal.h"
#include "loadgen/report/tally.h"
#include "net/fd.h"
#include "tls/engine.h"

namespace poise::loadgen {

/// Many clients on one thread: chooses targets, connects, moves bytes between sockets and
/// dialogues, counts and times. Ends when all sessions have, or on SIGINT and SIGTERM with those
/// open left uncounted.
class RunLoop {
 public:
  RunLoop(RunPlan plan, LedgerFile ledger);
  ~RunLoop();

  /// `on_second` is called once a second with the tally so far, its last interval being that
  /// second.
  void run(const std::function<void(const RunLoop&)>& on_second);

  [[nodiscard]] const RunPlan& plan() const { return plan_; }
  [[nodiscard]] const Tally& tally() const { return tally_; }
  /// Every target of every block, as in Tally::by_target.
  [[nodiscard]] const std::vector<Target>& targets() const { return targets_; }
  [[nodiscard]] std::uint64_t active() const { return active_; }
  /// Deferred sessions that wait for their next try.
  [[nodiscard]] std::uint64_t queued() const { return queued_; }
  [[nodiscard]] std::uint64_t peak() const { return peak_; }  ///< most connections at a time
  [[nodiscard]] Nanos elapsed() const {
    return last_end_ - began_;
  }  ///< from the start to the end of the last session
  [[nodiscard]] bool interrupted() const { return interrupted_; }
  [[nodiscard]] bool ledger_failed() const { return ledger_failed_; }

 private:
  enum class Phase : std::uint8_t {
    connecting,
    securing,  ///< the TLS handshake is under way
    greeting,
    talking,
    leaving,   ///< counted; the server may close first
    deferred,  ///< no connection; tried again later
  };

  struct Asked {
    Command command;
    Nanos at;
  };

  struct Session {
    net::Fd fd;
    std::uint32_t slot = 0;
    std::uint32_t generation = 0;  ///< of the connection
    Phase phase = Phase::connecting;
    bool readable = false;
    bool blocked = false;
    bool hung_up = false;  ///< the end is announced: read up to it, however short the reads
    bool greeted = false;
    bool waiting = false;  ///< its deadline is the end of a think time
    int send_error = 0;    ///< a send has met a reset; what came before it is being read
    std::uint64_t number = 0;
    std::uint32_t block = 0;
    std::vector<std::uint32_t> order;  ///< the targets it tries
    std::uint32_t at = 0;              ///< index into `order`
    unsigned attempts = 0;
    unsigned deferrals = 0;
    Remainder remainder;
    Nanos intended_at = 0;
    Nanos attempt_at = 0;  ///< of the first attempt: intended_at
    Nanos connected_at = 0;
    Nanos patience_at = 0;
    std::optional<Command> refused;
    std::vector<Asked> asked;  ///< commands on their way, the oldest first
    std::unique_ptr<ClientDialogue> dialogue;
    std::unique_ptr<tls::Engine> tls;
    std::string ciphertext;  ///< on its way out
    std::size_t ciphertext_sent = 0;
    ClientWire wire;
  };

  /// One block and what belongs to it.
  struct Part {
    Chooser chooser;
    MessageMaker messages;
    std::uint32_t first_target;  ///< of its targets in targets_
    double up_to;                ///< the share of sessions that are its or an earlier one's
  };

  [[nodiscard]] bool open_loop() const { return plan_.pace.rate > 0; }
  [[nodiscard]] bool more_to_start() const;
  [[nodiscard]] bool over() const;
  [[nodiscard]] Nanos next_start() const;  ///< kNever: when a session ends, or never
  [[nodiscard]] Nanos next_thought() const;
  [[nodiscard]] const Block& block_of(const Session& session) const {
    return plan_.blocks[session.block];
  }
  [[nodiscard]] std::uint32_t target_of(const Session& session) const;
  Session& take_slot();
  std::uint32_t pick_block();
  void start_due();
  void start(Nanos intended);
  void begin_attempt(Session& session);
  void on_event(const Poller::Event& event);
  void on_deadline(std::uint32_t slot);
  void on_connected(Session& session);
  void begin_tls(Session& session);
  void on_secured(Session& session);
  bool decrypt(Session& session, std::string_view bytes);
  void pump(Session& session);
  bool send_some(Session& session);
  void encrypt(Session& session);
  void on_lost(Session& session, int error);
  void on_dialogue(Session& session);
  void collect(Session& session);
  void collect_events(Session& session);
  void set_patience(Session& session, Nanos deadline);
  void succeed(Session& session);
  void fail(Session& session, Failure failure, std::string_view code = {});
  void attempt_failed(Session& session, Failure failure, std::string_view code);
  void give_up(Session& session, Failure failure);
  void count_failure(Session& session, Failure failure, std::string_view code);
  void end_connection(Session& session);
  void release(Session& session);
  void note_end(const Session& session, Failure failure);
  void end_second();

  static constexpr std::uint32_t kSignalSlot = 0;
  static constexpr std::uint32_t kSessionBase = 1;

  RunPlan plan_;
  std::vector<Part> parts_;
  std::vector<Target> targets_;
  Random random_{2};
  LedgerFile ledger_;
  bool ledger_failed_ = false;
  Poller poller_;
  Deadlines deadlines_;
  StopSignal stop_signal_;
  std::vector<std::unique_ptr<Session>> sessions_;
  std::vector<std::uint32_t> free_;
  std::vector<char> buffer_;
  std::string plaintext_;  ///< decrypted, on its way to a dialogue
  Tally tally_;
  Interval second_;
  Histogram second_sessions_;
  /// Closed loop: when each thinking client is back, the earliest first.
  std::priority_queue<Nanos, std::vector<Nanos>, std::greater<>> thinking_;
  Nanos now_ = 0;
  Nanos began_ = 0;
  Nanos last_end_ = 0;
  Nanos next_second_ = 0;
  Nanos resume_at_ = 0;  ///< after a failure of our own (no port, no file descriptor): not before
  std::uint64_t active_ = 0;     ///< not yet counted, connected or about to be
  std::uint64_t lingering_ = 0;  ///< counted, waiting for the server to close
  std::uint64_t queued_ = 0;     ///< deferred
  std::uint64_t peak_ = 0;
  bool interrupted_ = false;
};

}  // namespace poise::loadgen
