#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "loadgen/client/dialogue.h"
#include "loadgen/client/message.h"
#include "loadgen/ledger/ledger_file.h"
#include "loadgen/loop/deadlines.h"
#include "loadgen/loop/poller.h"
#include "loadgen/loop/stop_signal.h"
#include "loadgen/report/tally.h"
#include "net/fd.h"
#include "poise/address.h"

namespace poise::loadgen {

/// How sessions come about. Closed loop: `clients` at a time, the next when one ends. Open loop:
/// one every 1/rate seconds, however long the others take, and times are measured from when it
/// *should* have begun, so that a stall cannot hide.
struct Pace {
  unsigned clients = 16;
  double rate = 0;             ///< sessions a second; 0: closed loop
  std::uint64_t sessions = 0;  ///< 0: until `duration`
  Nanos duration = 0;          ///< 0: until `sessions`
  unsigned max_concurrent =
      0;  ///< open loop: a session that finds that many open waits, and its clock runs
};

struct Patience {
  Nanos connect = 30 * kSecond;
  Nanos greeting = 300 * kSecond;
  Nanos session = 30 * kSecond;  ///< from the greeting on
};

/// Many clients on one thread: connects, moves bytes between sockets and dialogues, counts and
/// times. Ends when all sessions have, or on SIGINT and SIGTERM with those open left uncounted.
class RunLoop {
 public:
  RunLoop(const Script& script, MessageMaker& messages, std::vector<Address> targets,
          std::vector<Address> sources, Pace pace, Patience patience, LedgerFile ledger);
  ~RunLoop();

  /// `on_second` is called once a second with the tally so far, its last interval being that
  /// second.
  void run(const std::function<void(const RunLoop&)>& on_second);

  [[nodiscard]] const Tally& tally() const { return tally_; }
  [[nodiscard]] std::uint64_t active() const { return active_; }
  [[nodiscard]] Nanos elapsed() const {
    return last_end_ - began_;
  }  ///< from the start to the end of the last session
  [[nodiscard]] bool interrupted() const { return interrupted_; }
  [[nodiscard]] bool ledger_failed() const { return ledger_failed_; }

 private:
  enum class Phase : std::uint8_t { connecting, greeting, talking, leaving };

  struct Session {
    net::Fd fd;
    std::uint32_t slot = 0;
    std::uint32_t generation = 0;
    Phase phase = Phase::connecting;
    bool readable = false;
    bool blocked = false;
    bool hung_up = false;  ///< the end is announced: read up to it, however short the reads
    int send_error = 0;    ///< a send has met a reset; what came before it is being read
    Nanos intended_at = 0;
    Nanos connected_at = 0;
    std::unique_ptr<ClientDialogue> dialogue;
    ClientWire wire;
  };

  [[nodiscard]] bool open_loop() const { return pace_.rate > 0; }
  [[nodiscard]] bool more_to_start() const;
  [[nodiscard]] Nanos next_start() const;  ///< kNever: when a session ends, or never
  void start_due();
  void start(Nanos intended);
  void on_event(const Poller::Event& event);
  void on_deadline(std::uint32_t slot);
  void on_connected(Session& session);
  void pump(Session& session);
  bool send_some(Session& session);
  void on_lost(Session& session, int error);
  void on_dialogue(Session& session);
  void collect(Session& session);
  void succeed(Session& session);
  void fail(Session& session, Failure failure, std::string_view code = {});
  void count_failure(Failure failure, std::string_view code);
  void release(Session& session);
  void end_second();

  static constexpr std::uint32_t kSignalSlot = 0;
  static constexpr std::uint32_t kSessionBase = 1;

  const Script& script_;
  MessageMaker& messages_;
  std::vector<Address> targets_;
  std::vector<Address> sources_;
  Pace pace_;
  Patience patience_;
  LedgerFile ledger_;
  bool ledger_failed_ = false;
  Poller poller_;
  Deadlines deadlines_;
  StopSignal stop_signal_;
  std::vector<std::unique_ptr<Session>> sessions_;
  std::vector<std::uint32_t> free_;
  std::vector<char> buffer_;
  Tally tally_;
  Interval second_;
  Nanos now_ = 0;
  Nanos began_ = 0;
  Nanos last_end_ = 0;
  Nanos next_second_ = 0;
  Nanos resume_at_ = 0;  ///< after a failure of our own (no port, no file descriptor): not before
  std::uint64_t active_ = 0;     ///< not yet counted
  std::uint64_t lingering_ = 0;  ///< counted, waiting for the server to close
  bool interrupted_ = false;
};

}  // namespace poise::loadgen
