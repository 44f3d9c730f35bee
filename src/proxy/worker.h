#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <variant>
#include <vector>

#include "io/io.h"
#include "proxy/core.h"
#include "proxy/session.h"
#include "proxy/snapshot.h"

namespace poise::proxy {

/// What control asks of a worker; handled between two batches.
struct Publish {
  const Snapshot* snapshot;  ///< alive until acknowledged_version() has gone past it
};
struct Listen {
  std::vector<Listener> listeners;  ///< in addition to those there are
};
/// Takes what the kernel has queued for the listeners, then lets go of them: control may close them
/// when listening() has become false.
struct StopListening {};
/// Sessions that are still open end with `shutdown`; run() returns when none is left.
struct Stop {
  bool at_once = false;  ///< do not wait for them: close them now
};
/// The same for one listener, while the others go on. `done` runs in the worker's thread when
/// control may close the descriptor, or give it to another service.
struct CloseListener {
  int fd = -1;
  std::function<void()> done;
};
/// Lets sessions go with a FIN to both sides: those that relay and whose server spoke last, with
/// nothing on its way, in the order of their slots. One whose server owes an answer is left alone:
/// cut there, the mail arrives twice.
struct Release {
  BackendId backend;  ///< none: any
  std::uint32_t at_most = UINT32_MAX;
  bool even_if_owed = false;
  CloseReason reason = CloseReason::drained;
  ServiceId service{};  ///< none: any
};
/// A look at all sessions, the free slots among them; for commands of the operator.
struct Visit {
  std::function<void(Core&, std::span<Session>)> work;
};
using Command =
    std::variant<Place, Publish, Listen, StopListening, Stop, CloseListener, Release, Visit>;

/// One thread's share of the work: its ring, its listeners of the reuseport groups, and its
/// sessions from accept to last byte. Everything but post() and the read-only accessors marked so
/// belongs to the thread that calls run() or step().
class Worker {
 public:
  Worker(io::Io& io, Registries& registries, Counters& counters, const Tuning& tuning,
         std::uint32_t sessions_max, std::uint64_t first_session_id, Reports reports);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// From any thread.
  void post(Command command);
  [[nodiscard]] std::uint64_t acknowledged_version() const {
    return acknowledged_.load(std::memory_order_acquire);
  }
  [[nodiscard]] bool listening() const { return listening_.load(std::memory_order_acquire); }
  [[nodiscard]] std::uint32_t sessions() const { return open_.load(std::memory_order_relaxed); }

  /// Works until stopped.
  void run();
  /// One turn of the loop; false when stopped. `wait`: may sleep.
  bool step(bool wait = true);

  [[nodiscard]] std::span<const Session> slots() const { return {slots_.get(), slots_used_}; }
  [[nodiscard]] const Core& core() const { return core_; }

 private:
  struct Accepting {
    Listener listener;
    bool armed = false;
    bool closing = false;
    std::function<void()> closed;  ///< of a CloseListener
  };

  void dispatch(std::span<const io::Completion> batch);
  void take_commands();
  void apply(const Place& place);
  void apply(const Publish& command);
  void apply(const Listen& command);
  void apply(const StopListening& command);
  void apply(const Stop& command);
  void apply(const CloseListener& command);
  void apply(const Release& command);
  void apply(const Visit& command);
  void close_listener(std::uint32_t listener);
  void listener_closed(std::uint32_t listener);
  void arm(std::uint32_t listener);
  void admit(const Listener& listener, int client);
  void take_queued(const Accepting& accepting);
  void on_accept(const io::Completion& done);
  void flush();
  void begin_epoch();
  void keep_spares();
  void read_clock();
  [[nodiscard]] io::Time next_deadline() const;

  struct Unmap {
    explicit Unmap(std::size_t bytes_in) : bytes(bytes_in) {}
    void operator()(Session* memory) const;
    std::size_t bytes;
  };

  Core core_;
  std::unique_ptr<Session[], Unmap> slots_;
  std::uint32_t slots_max_;
  std::uint32_t slots_used_ = 0;  // beyond it the memory was never touched
  std::vector<std::uint32_t> free_slots_;
  std::vector<Accepting> accepting_;
  std::vector<int> spares_;  // descriptors that refusals may use
  io::Time start_;
  io::Time accept_again_ = io::Time::max();  // when fds had run out
  bool stop_ = false;

  std::mutex mailbox_mutex_;
  std::vector<Command> mailbox_;
  std::atomic<bool> has_mail_{false};
  std::atomic<std::uint64_t> acknowledged_{0};
  std::atomic<bool> listening_{false};
  std::atomic<std::uint32_t> open_{0};
};

}  // namespace poise::proxy
