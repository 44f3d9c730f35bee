#pragma once

#include <cstdint>

#include "balance/pool.h"
#include "io/io.h"
#include "mail/refusal.h"
#include "poise/address.h"
#include "poise/ids.h"
#include "poise/reasons.h"
#include "poise/session_record.h"
#include "proxy/core.h"
#include "proxy/relay.h"

namespace poise::proxy {

using State = SessionState;

/// What can be said of a session while it runs.
struct SessionLook {
  std::uint64_t id = 0;
  Address client;
  Address vip;
  ServiceId service;
  BackendId backend;  ///< none yet, or none at all
  State state = State::free;
  io::Time age{};
  std::uint64_t bytes_to_backend = 0;
  std::uint64_t bytes_to_client = 0;
  bool client_spoke_last = false;
};

/// One client connection and the backend connection made for it, from accept to last byte.
///
/// A value in the worker's slab: two descriptors, two Relays and what the log line will say; no
/// pointer, so that a session can be written down. Every entry point takes the Core. Invariants:
/// close(reason) is the only way into `closing`; the descriptors are closed only when nothing is
/// armed or in flight; each taken buffer, block, pipe and place is given back exactly once.
class Session {
 public:
  /// Begins with a just accepted client. May end at once (then the slot is free again on return).
  /// `full`: only to be told so, there is room for refusals alone.
  void start(Core& core, std::uint32_t slot, int client, const Service& service, const Address& vip,
             bool full);

  /// Anything but Op::report. The tag's slot and generation must be this session's.
  void on_completion(Core& core, const io::Completion& done);
  /// A quiet send fell short.
  void on_report(Core& core, const io::Completion& done);
  void on_timer(Core& core);
  /// End of the batch: what was received goes out. A stale generation is ignored.
  void flush(Core& core, io::Direction direction);
  /// The epoch in which a quiet send was queued is over.
  void release_if_quiet(Core& core);

  /// A place it waits for. Only while queued.
  void take_place(Core& core, const Place& place);
  /// Gives places back, and on to who waits for them.
  static void give_back(Core& core, const Place& place);
  static void serve_waiters(Core& core, const Service& service);

  /// The only way into `closing`; later calls change nothing.
  void close(Core& core, CloseReason reason);
  /// poised ends. Who has not been greeted yet is told to come back.
  void shut_down(Core& core);

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] std::uint16_t generation() const { return generation_; }
  [[nodiscard]] ServiceId service() const { return service_; }
  [[nodiscard]] BackendId backend() const { return backend_id_; }
  [[nodiscard]] bool client_spoke_last() const { return client_spoke_last_; }
  [[nodiscard]] std::uint64_t id() const { return id_; }
  [[nodiscard]] const Address& client_address() const { return client_address_; }
  /// The server has not answered yet, or its answer has not reached the client.
  [[nodiscard]] bool owed() const;
  [[nodiscard]] SessionLook look(const Core& core) const;
  [[nodiscard]] const Relay& relay(io::Direction direction) const {
    return relays_[index(direction)];
  }

 private:
  static std::size_t index(io::Direction direction) { return static_cast<std::size_t>(direction); }
  static io::Direction opposite(io::Direction direction) {
    return direction == io::Direction::to_backend ? io::Direction::to_client
                                                  : io::Direction::to_backend;
  }
  Relay& at(io::Direction direction) { return relays_[index(direction)]; }
  [[nodiscard]] int source_of(io::Direction direction) const {
    return direction == io::Direction::to_backend ? client_ : backend_;
  }
  [[nodiscard]] int sink_of(io::Direction direction) const {
    return direction == io::Direction::to_backend ? backend_ : client_;
  }
  [[nodiscard]] io::Tag tag(io::Op op, io::Direction direction) const {
    return io::Tag{.slot = slot_, .generation = generation_, .op = op, .direction = direction};
  }

  // opening
  void on_header_bytes(Core& core);
  void refuse_header(Core& core, const char* why);
  void opened(Core& core);

  // refusing
  void refuse(Core& core, RefusalReason reason);
  [[nodiscard]] mail::RefusalStyle refusal_style(const Core& core) const;
  void say_refusal(Core& core);
  void say(Core& core, std::string_view text, bool last);
  void on_refused_bytes(Core& core, std::span<const std::byte> bytes);

  // who may come
  [[nodiscard]] bool admitted(Core& core);
  [[nodiscard]] bool within_limits(Core& core);
  void refuse_or_log(Core& core, RefusalReason reason);

  // choosing a backend
  Tries& tries(Core& core);
  [[nodiscard]] Address source(const Core& core) const;
  [[nodiscard]] std::span<const BackendId> failed(Core& core) const;
  [[nodiscard]] bool may_try_another(const Core& core, std::size_t tried) const;
  [[nodiscard]] Tick budget_end(const Core& core) const;
  balance::Pick choose(Core& core, std::span<const BackendId> tried);
  balance::Pick choose_sticky(Core& core, balance::PickRequest& request);
  balance::Pick follow(Core& core, balance::PickRequest& request, const balance::Pick& pick,
                       BackendId placed);
  void adopt(Core& core, const balance::Member& member);
  void settle_turn(Core& core);
  void release_backend(Core& core);

  // queued
  void join_queue(Core& core);
  void leave_queue(Core& core);
  void on_queue_timer(Core& core);

  // connecting
  void connect_next(Core& core);
  bool connect_backend(Core& core);
  int bind_source(Core& core, int fd, const Address& to);
  void on_connect(Core& core, std::int32_t res);
  bool send_header(Core& core);

  // greeting
  void on_early(Core& core, std::span<const std::byte> bytes);
  bool note_early(Core& core);
  bool keep_hello(Core& core, std::span<const std::byte> bytes);
  void pass_hello(Core& core);
  [[nodiscard]] bool owes_greeting(Core& core);
  bool judge(Core& core, std::span<const std::byte> bytes);
  void on_greeting_timeout(Core& core);
  void begin_relaying(Core& core);

  // trying another
  void note_failure(Core& core, TryOutcome outcome, std::string_view words, bool answered);
  void try_failed(Core& core, TryOutcome outcome);
  bool try_another(Core& core);
  void turn_to(Core& core, const balance::Member& member);
  void note_retry(Core& core);
  void turn_to_queue(Core& core);
  static bool is_backends(const io::Tag& tag);
  void leave_backend(Core& core);
  void on_abandoned(Core& core, const io::Completion& done);
  void left_if_quiet(Core& core);

  // relaying: the receiving end of a direction
  void receive(Core& core, io::Direction direction);
  void poll_source(Core& core, io::Direction direction);
  void ask_source(Core& core, io::Direction direction, Goal goal);
  void settle_source(Core& core, io::Direction direction);
  void on_recv(Core& core, const io::Completion& done);
  void on_received(Core& core, const io::Completion& done);
  void relay_received(Core& core, const io::Completion& done);
  bool greeting_failed(Core& core, io::Direction direction, TryOutcome outcome);
  void on_eof(Core& core, io::Direction direction);
  void on_source_error(Core& core, io::Direction direction);
  void touch(Core& core, io::Direction direction);

  // relaying: the sending end
  bool hold(Core& core, io::Direction direction, std::span<const std::byte> bytes);
  void send_held(Core& core, io::Direction direction);
  void on_send(Core& core, io::Direction direction, std::int32_t res);
  void on_sink_error(Core& core, io::Direction direction);
  void drained(Core& core, io::Direction direction);
  void pass_fin(Core& core, io::Direction direction);
  void drop_unsent(Core& core, io::Direction direction);

  // bulk
  void begin_bulk(Core& core, io::Direction direction);
  void pump(Core& core, io::Direction direction);
  void await_room(Core& core, io::Direction direction);
  void leave_bulk(Core& core, io::Direction direction);

  // resetting
  void begin_reset(Core& core, io::Direction direction);
  void finish_reset(Core& core);

  void park(Core& core);
  void wake_up(Core& core, io::Direction direction);
  void set_timer(Core& core);
  /// A backend was connected; asked once the session is closing.
  [[nodiscard]] bool served() const {
    return state_at_end_ == State::relaying || state_at_end_ == State::resetting;
  }
  [[nodiscard]] Address vip(const Core& core) const;
  void write_record(Core& core);
  void write_start(Core& core);
  void count_received(Core& core, io::Direction direction, std::uint64_t bytes);
  void count_end(Core& core);

  std::array<Relay, 2> relays_{};
  io::Time started_{};
  std::uint64_t id_ = 0;
  Address client_address_{};
  Address vip_{};
  int client_ = -1;
  int backend_ = -1;
  std::uint32_t slot_ = 0;
  ServiceId service_{};
  BackendId backend_id_{};
  std::uint32_t pair_ = 0;  ///< index of PairCounters for the backend we are at
  std::uint32_t tries_ = Lender<Tries>::kNone;
  std::uint32_t connect_started_us_ = 0;  ///< after started_
  std::uint32_t connect_us_ = 0;
  std::uint32_t greeting_us_ = 0;
  std::uint32_t queue_us_ = 0;
  Tick last_activity_ = 0;
  Tick deadline_ = 0;  ///< of opening, connecting, greeting, resetting, refusing
  std::uint32_t quiet_epoch_ = 0;
  std::uint16_t generation_ = 0;
  std::uint16_t in_flight_ = 0;  ///< operations that will still end in a completion
  State state_ = State::free;
  State state_at_end_ = State::free;
  CloseReason reason_ = CloseReason::client_closed;
  RefusalReason refusal_ = RefusalReason::bare;
  mail::DeniedDialogue denied_;
  StickyUse sticky_ = StickyUse::none;
  balance::SourceTicket source_ticket_;  ///< counted among its source's sessions
  io::Direction first_fin_ = io::Direction::to_backend;
  io::Direction reset_ = io::Direction::to_backend;  ///< whose source reset, while resetting
  bool client_spoke_last_ : 1 = false;
  bool early_ : 1 = false;
  bool has_place_ : 1 = false;   ///< a place at the backend is reserved
  bool has_turn_ : 1 = false;    ///< we count among those who wait for the backend's greeting
  bool connecting_ : 1 = false;  ///< a connect is in flight
  bool abandoning_ : 1 = false;  ///< the backend's socket is to be closed as soon as it is quiet
  bool far_timer_ : 1 = false;   ///< the timer is set to the end of a wait for the greeting
  bool refusal_said_ : 1 = false;
  bool awaits_quit_ : 1 = false;
  bool connect_timed_out_ : 1 = false;
  bool parked_ : 1 = false;
  bool keepalive_set_ : 1 = false;
  bool waits_release_ : 1 = false;
};

static_assert(sizeof(Session) <= 256, "user memory of an idle session is a promise");

}  // namespace poise::proxy
