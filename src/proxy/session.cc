#include "proxy/session.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "poise/check.h"

namespace poise::proxy {

using io::Direction;
using io::Op;
using std::chrono::duration_cast;
using std::chrono::microseconds;

namespace {

std::uint32_t saturated_us(io::Time time) {
  const auto us = duration_cast<microseconds>(time).count();
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(us, 0, UINT32_MAX));
}

TryOutcome outcome_of(std::int32_t error) {
  switch (-error) {
    case ECONNREFUSED:
      return TryOutcome::refused;
    case ETIMEDOUT:
      return TryOutcome::timeout;
    case ECONNRESET:
      return TryOutcome::reset;
    case EADDRNOTAVAIL:  // no port left towards this backend
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
    case EACCES:
    case EPERM:
      return TryOutcome::local;
    default:
      return TryOutcome::unreachable;
  }
}

}  // namespace

// ---- opening and connecting ----

void Session::start(Core& core, std::uint32_t slot, int client, const Service& service,
                    const Address& vip) {
  const std::uint16_t generation = generation_;
  *this = Session{};
  generation_ = generation;
  slot_ = slot;
  client_ = client;
  service_ = service.id;
  vip_ = vip;
  id_ = ++core.next_session_id;
  started_ = core.now;
  last_activity_ = core.tick;
  state_ = State::connecting;

  auto& sessions = core.registries.services[service_.value].sessions;
  const std::uint32_t before = sessions.fetch_add(1, std::memory_order_relaxed);
  client_address_ = core.io.peer_address(client_);
  if (!client_address_) return close(core, CloseReason::client_gone);
  if (core.log != nullptr && core.log->start_enabled()) write_start(core);
  receive(core, Direction::to_backend);
  if (service.sessions_max != 0 && before >= service.sessions_max)
    return refuse(core, RefusalReason::sessions);
  connect_next(core);
}

void Session::connect_next(Core& core) {
  const Service& service = core.service(service_);
  for (;;) {
    const std::size_t count = tries_ == Lender<Tries>::kNone ? 0 : core.tries[tries_].count;
    if (count >= std::min<std::size_t>(service.tries, Tries::kMax))
      return refuse(core, RefusalReason::all_failed);
    balance::PickRequest request;
    request.source = masked(client_address_, client_address_.is_v4() ? service.source_prefix_v4
                                                                     : service.source_prefix_v6);
    request.random = core.next_random();
    if (count > 0) request.tried = std::span(core.tries[tries_].tried).first(count);
    const balance::Pick pick = service.pool->pick(request);
    if (pick.result != balance::PickResult::chosen) {
      // Full is an answer of its own once there is a queue; until then it is one more way to have
      // no backend.
      return refuse(core, count > 0 && pick.result == balance::PickResult::no_backend
                              ? RefusalReason::all_failed
                              : RefusalReason::no_backend);
    }
    has_place_ = true;
    backend_id_ = pick.member->id;
    pair_ = service.pairs[static_cast<std::size_t>(pick.member - service.pool->members().data())];
    const int fd = core.io.open_socket(pick.member->address.family, service.congestion_backend);
    if (fd < 0) {
      core.warn(Shortage::backend_sockets, "no socket towards {}: {}", pick.member->address.text(),
                std::strerror(-fd));
      try_failed(core, TryOutcome::local);
      if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS)
        return refuse(core, RefusalReason::resources);  // the next backend would need a socket too
      continue;
    }
    backend_ = fd;
    connect_timed_out_ = false;
    connect_started_us_ = saturated_us(core.now - started_);
    deadline_ = core.tick + ticks(service.timeouts.connect);
    core.io.connect(backend_, pick.member->address, tag(Op::connect, Direction::to_backend));
    ++in_flight_;
    core.wheel.set(slot_, deadline_);
    return;
  }
}

void Session::on_connect(Core& core, std::int32_t res) {
  if (res < 0) {
    const bool timed_out = connect_timed_out_;
    if (res == -EADDRNOTAVAIL)
      core.warn(Shortage::backend_sockets,
                "no local port left towards {}: widen net.ipv4.ip_local_port_range, set "
                "net.ipv4.tcp_tw_reuse=1",
                core.registries.backend_addresses[backend_id_.value].text());
    core.io.close(backend_);
    backend_ = -1;
    try_failed(core, timed_out ? TryOutcome::timeout : outcome_of(res));
    return connect_next(core);
  }
  connect_us_ = saturated_us(core.now - started_) - connect_started_us_;
  state_ = State::relaying;
  core.counters.pairs[pair_].sessions_started.add();
  last_activity_ =
      core.tick;  // the timer set for connect comes up in a few seconds and is then set right
  receive(core, Direction::to_client);
  Relay& relay = at(Direction::to_backend);
  if (relay.held_bytes > 0) {
    send_held(core, Direction::to_backend);
  } else if (relay.eof) {
    pass_fin(core, Direction::to_backend);
  }
}

/// One backend could not be had: write it down and give its place back.
void Session::try_failed(Core& core, TryOutcome outcome) {
  core.counters.pairs[pair_].tries_failed[static_cast<std::size_t>(outcome)].add();
  if (tries_ == Lender<Tries>::kNone) tries_ = core.tries.take();
  Tries& tries = core.tries[tries_];
  if (tries.count < tries.records.size()) {
    tries.records[tries.count].backend = backend_id_;
    tries.records[tries.count].outcome = outcome;
  }
  if (tries.count < Tries::kMax) tries.tried[tries.count++] = backend_id_;
  give_up_backend(core);
}

void Session::give_up_backend(Core& core) {
  if (has_place_) balance::Pool::release(core.registries.backends[backend_id_.value]);
  has_place_ = false;
  backend_id_ = BackendId{};
}

/// Nobody can serve this client: FIN, then its own end is awaited so that no reset overtakes what
/// it should read.
void Session::refuse(Core& core, RefusalReason reason) {
  refusal_ = reason;
  core.counters.services[service_.value].refusals[static_cast<std::size_t>(reason)].add();
  state_ = State::refusing;
  Relay& relay = at(Direction::to_backend);
  relay.drop_held(core.blocks);
  if (relay.eof) return close(core, CloseReason::refused);
  core.io.shutdown_write(client_);
  relay.goal = Goal::receive;
  if (relay.armed == Armed::nothing) settle_source(core, Direction::to_backend);
  deadline_ = core.tick + ticks(core.tuning.refusal_patience);
  core.wheel.set(slot_, deadline_);
}

// ---- completions ----

void Session::on_completion(Core& core, const io::Completion& done) {
  CHECK(done.tag.generation == generation_ && state_ != State::free);
  const Direction direction = done.tag.direction;
  if (!done.more) {
    CHECK(in_flight_ > 0);
    --in_flight_;
  }
  if (state_ == State::closing) {
    if (done.buffer != io::kNoBuffer) core.io.release_buffer(done.buffer);
    return release_if_quiet(core);
  }
  Relay& relay = at(direction);
  switch (done.tag.op) {
    case Op::connect:
      return on_connect(core, done.res);
    case Op::recv:
      if (!done.more) {
        relay.armed = Armed::nothing;
        relay.cancelling = false;
      }
      return on_recv(core, done);
    case Op::send:
      relay.sending = false;
      return on_send(core, direction, done.res);
    case Op::poll_in:
      relay.armed = Armed::nothing;
      relay.cancelling = false;
      if (done.res >= 0 && relay.goal == Goal::park) wake_up(core, direction);
      if (done.res >= 0 && relay.goal == Goal::bulk && relay.pipe != PipePool::kNone)
        return pump(core, direction);
      return settle_source(core, direction);
    case Op::poll_out:
      relay.sending = false;
      return pump(core, direction);
    case Op::none:
    case Op::accept:
    case Op::report:
    case Op::wake:
      break;  // the worker keeps these
  }
  CHECK(false);
}

void Session::on_eof(Core& core, Direction direction) {
  Relay& relay = at(direction);
  relay.eof = true;
  relay.goal = Goal::end;
  last_activity_ = core.tick;
  if (!at(opposite(direction)).eof) first_fin_ = direction;
  switch (state_) {
    case State::connecting:
      // Mail clients wait for the greeting: one that closes before it has said anything has left.
      // Elsewhere a FIN may be all that a client wants to say first.
      if (core.service(service_).protocol != Protocol::tcp && relay.held_bytes == 0)
        return close(core, CloseReason::client_gone);
      return;
    case State::relaying:
      // The sink of the other direction died under a send: what came up to this EOF was the last of
      // it.
      if (at(opposite(direction)).sink_dead) return begin_reset(core, direction);
      if (relay.empty()) pass_fin(core, direction);
      return;
    case State::refusing:
      return close(core, CloseReason::refused);
    case State::resetting:
    case State::free:
    case State::opening:
    case State::queued:
    case State::greeting:
    case State::closing:
      return;
  }
}

void Session::on_source_error(Core& core, Direction direction) {
  at(direction).goal = Goal::end;
  switch (state_) {
    case State::connecting:
      return close(core, CloseReason::client_gone);
    case State::relaying:
      return begin_reset(core, direction);
    case State::refusing:
      return close(core, CloseReason::refused);
    case State::resetting:
      // The side that should have been reset has gone by itself.
      if (direction != reset_)
        close(core, reset_ == Direction::to_backend ? CloseReason::client_reset
                                                    : CloseReason::backend_reset);
      return;
    case State::free:
    case State::opening:
    case State::queued:
    case State::greeting:
    case State::closing:
      return;
  }
}

// ---- time ----

void Session::on_timer(Core& core) {
  switch (state_) {
    case State::connecting:
      if (core.tick < deadline_) return core.wheel.set(slot_, deadline_);
      connect_timed_out_ = true;  // the completion, -ECANCELED or a late success, decides
      core.io.cancel(tag(Op::connect, Direction::to_backend));
      return;
    case State::relaying:
      return set_timer(core);
    case State::resetting:
      return finish_reset(core);
    case State::refusing:
      if (core.tick < deadline_) return core.wheel.set(slot_, deadline_);
      return close(core, CloseReason::refused);
    case State::free:
    case State::opening:
    case State::queued:
    case State::greeting:
    case State::closing:
      return;
  }
}

void Session::set_timer(Core& core) {
  const config::Timeouts& timeouts = core.service(service_).timeouts;
  const bool half_closed = at(Direction::to_backend).eof || at(Direction::to_client).eof;
  const Tick limit = ticks(half_closed          ? timeouts.half_closed
                           : client_spoke_last_ ? timeouts.owed
                                                : timeouts.idle);
  const Tick silent = core.tick - last_activity_;
  if (silent >= limit)
    return close(core, half_closed          ? CloseReason::half_closed_timeout
                       : client_spoke_last_ ? CloseReason::owed_timeout
                                            : CloseReason::idle_timeout);
  const Tick park_after = ticks(core.tuning.park_after);
  if (silent >= park_after && !parked_) park(core);
  core.wheel.set(slot_, last_activity_ + (parked_ ? limit : std::min(limit, park_after)));
}

// ---- the end ----

void Session::close(Core& core, CloseReason reason) {
  if (state_ == State::closing || state_ == State::free) return;
  state_at_end_ = state_;
  reason_ = reason;
  state_ = State::closing;
  core.wheel.remove(slot_);
  for (const Direction direction : kDirections) {
    Relay& relay = at(direction);
    if (relay.armed != Armed::nothing)
      core.io.cancel(tag(relay.armed == Armed::recv ? Op::recv : Op::poll_in, direction));
    drop_unsent(core, direction);
    // A send to a stalled peer never ends by itself.
    if (relay.sending) {
      core.io.cancel(tag(Op::send, direction));
      core.io.cancel(tag(Op::poll_out, direction));  // whichever it is
    }
  }
  if (state_at_end_ == State::connecting && in_flight_ > 0)
    core.io.cancel(tag(Op::connect, Direction::to_backend));
  count_end(core);
  write_record(core);
  release_if_quiet(core);
}

void Session::count_end(Core& core) {
  PairCounters& pair = core.counters.pairs[served() ? pair_ : core.service(service_).pair_none];
  if (!served()) pair.sessions_started.add();
  pair.sessions_ended[static_cast<std::size_t>(reason_)].add();
  for (const Direction direction : kDirections)
    pair.bytes[index(direction)].add(at(direction).bytes_total);
}

void Session::write_record(Core& core) {
  if (core.log == nullptr || !core.log->enabled()) return;
  SessionRecord record;
  record.id = id_;
  record.ended_unix_us =
      duration_cast<microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  record.client = client_address_;
  record.vip = vip_.is_any() && client_ >= 0 ? core.io.local_address(client_) : vip_;
  record.service = service_;
  record.backend = backend_id_;
  if (backend_ >= 0) {
    record.source = core.io.local_address(backend_);
    record.destination = core.registries.backend_addresses[backend_id_.value];
  }
  record.connect_us = connect_us_;
  record.total_us =
      static_cast<std::uint64_t>(duration_cast<microseconds>(core.now - started_).count());
  record.bytes_to_backend = at(Direction::to_backend).bytes_total;
  record.bytes_to_client = at(Direction::to_client).bytes_total;
  record.close_reason = reason_;
  record.refusal = refusal_;
  record.state = state_at_end_;
  record.early = early_;
  record.client_spoke_last = client_spoke_last_;
  std::array<TryRecord, kTryRecords + 1> tries;
  if (tries_ != Lender<Tries>::kNone) {
    const Tries& failed = core.tries[tries_];
    std::size_t count = std::min<std::size_t>(failed.count, kTryRecords);
    std::copy_n(failed.records.begin(), count, tries.begin());
    if (served())
      tries[count++] = TryRecord{.backend = backend_id_, .outcome = TryOutcome::ok, .words = {}};
    record.tries = std::span(tries).first(count);
  }
  core.log->write(record);
}

void Session::write_start(Core& core) {
  SessionStart start;
  start.id = id_;
  start.started_unix_us =
      duration_cast<microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  start.client = client_address_;
  start.vip = vip_.is_any() ? core.io.local_address(client_) : vip_;
  start.service = service_;
  core.log->write_start(start);
}

void Session::release_if_quiet(Core& core) {
  if (state_ != State::closing || in_flight_ > 0) return;
  if (quiet_epoch_ == core.epoch) {  // a report may still come
    if (!waits_release_) core.to_release.push_back(slot_);
    waits_release_ = true;
    return;
  }
  for (const Direction direction : kDirections) at(direction).drop_held(core.blocks);
  if (client_ >= 0) core.io.close(client_);
  if (backend_ >= 0) core.io.close(backend_);
  if (has_place_) balance::Pool::release(core.registries.backends[backend_id_.value]);
  core.registries.services[service_.value].sessions.fetch_sub(1, std::memory_order_relaxed);
  if (tries_ != Lender<Tries>::kNone) core.tries.give_back(tries_);
  state_ = State::free;
  ++generation_;
  core.free_slot(slot_);
}

}  // namespace poise::proxy
