#include "proxy/session.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "mail/proxy_header.h"
#include "poise/check.h"

namespace poise::proxy {

using io::Direction;
using io::Op;
using std::chrono::duration_cast;
using std::chrono::microseconds;

// ---- opening ----

void Session::start(Core& core, std::uint32_t slot, int client, const Service& service,
                    const Address& vip, bool full) {
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
  state_ = State::opening;

  auto& sessions = core.registries.services[service_.value].sessions;
  const std::uint32_t before = sessions.fetch_add(1, std::memory_order_relaxed);
  client_address_ = core.io.peer_address(client_);
  if (!client_address_) return close(core, CloseReason::client_gone);
  if (core.reports.sessions != nullptr && core.reports.sessions->start_enabled()) write_start(core);
  receive(core, Direction::to_backend);
  if (full) return refuse(core, RefusalReason::resources);
  if (service.sessions_max != 0 && before >= service.sessions_max)
    return refuse(core, RefusalReason::sessions);
  if (service.accept_proxy == config::AcceptProxy::no) return opened(core);

  if (service.trusted_proxies.contains(client_address_)) {
    deadline_ = core.tick + ticks(service.accept_proxy == config::AcceptProxy::optional
                                      ? core.tuning.optional_header_patience
                                      : core.tuning.header_patience);
    return core.wheel.set(slot_, deadline_);
  }
  if (service.accept_proxy == config::AcceptProxy::optional) return opened(core);
  refuse_header(core, "not from one of trusted_proxies");
}

/// Bytes have come where a PROXY header is awaited.
void Session::on_header_bytes(Core& core) {
  Relay& relay = at(Direction::to_backend);
  const mail::ProxyHeader header =
      mail::parse_proxy_header(text_of(relay.front(core.blocks)));  // it fits one block
  switch (header.status) {
    case mail::ProxyHeaderStatus::need_more:
      return;
    case mail::ProxyHeaderStatus::malformed:
      return refuse_header(core, header.reason);
    case mail::ProxyHeaderStatus::absent:
      if (core.service(service_).accept_proxy == config::AcceptProxy::optional) return opened(core);
      return refuse_header(core, "no PROXY header");
    case mail::ProxyHeaderStatus::complete:
      break;
  }
  if (!header.local && header.source) {
    client_address_ = header.source;
    vip_ = header.destination;
  }
  relay.bytes_total -= header.length;
  relay.consume(core.blocks, static_cast<std::uint32_t>(header.length));
  opened(core);
}

void Session::refuse_header(Core& core, const char* why) {
  core.warn(Warning::proxy_header, "service {}: a client from {} was refused: {}",
            core.reports.events != nullptr ? core.reports.events->names().service(service_) : "",
            client_address_.text(), why);
  refuse(core, RefusalReason::proxy_header);
}

/// The client is known.
void Session::opened(Core& core) {
  if (!admitted(core)) return;
  state_ = State::connecting;
  const Service& service = core.service(service_);
  const Relay& relay = at(Direction::to_backend);  // what came behind a PROXY header
  if (relay.held_bytes > 0 && !note_early(core)) return;
  if (service.gate && is_implicit_tls(service.protocol) &&
      !relay.each_stretch(core.blocks, [&](auto bytes) { return keep_hello(core, bytes); }))
    return;
  connect_next(core);
}

// ---- who may come ----

bool Session::admitted(Core& core) {
  const Service& service = core.service(service_);
  if (core.snapshot->bans != nullptr && core.snapshot->bans->contains(client_address_)) {
    refuse(core, RefusalReason::banned);
    return false;
  }
  if (service.deny.contains(client_address_) ||
      (!service.allows_all && !service.allow.contains(client_address_))) {
    refuse(core, RefusalReason::denied);
    return false;
  }
  return service.limits_except.contains(client_address_) || within_limits(core);
}

bool Session::within_limits(Core& core) {
  const Service& service = core.service(service_);
  const bool enforced = service.source_limits.mode == config::LimitMode::enforce;
  balance::RateLimiter& rate = core.registries.services[service_.value].rate;
  if (!rate.admit(service.rate, core.now)) {
    refuse_or_log(core, RefusalReason::sessions);
    if (enforced) return false;
  }
  if (!service.limits_sources) return true;
  const balance::Admission admission = core.registries.services[service_.value].sources->admit(
      source(core), core.now, service.source_limits);
  source_ticket_ = admission.ticket;
  if (admission.verdict == balance::SourceVerdict::ok) return true;
  if (enforced) rate.give_back(service.rate);
  refuse_or_log(core, admission.verdict == balance::SourceVerdict::too_fast
                          ? RefusalReason::source_rate
                          : RefusalReason::source_sessions);
  return !enforced;
}

/// With "mode": "log" a limit only says what it would do.
void Session::refuse_or_log(Core& core, RefusalReason reason) {
  if (core.service(service_).source_limits.mode == config::LimitMode::enforce)
    return refuse(core, reason);
  core.counters.services[service_.value].would_refuse[static_cast<std::size_t>(reason)].add();
  if (core.reports.events != nullptr)
    core.warn(Warning::limits, "service {}: {} would be refused: {}",
              core.reports.events->names().service(service_), client_address_.ip_text(),
              name_of(reason));
}

// ---- refusing ----

/// Nobody can serve this client: it is told so in its protocol, then its own end is awaited, so
/// that no reset overtakes what it should read.
void Session::refuse(Core& core, RefusalReason reason) {
  if (state_ == State::queued) leave_queue(core);
  refusal_ = reason;
  core.counters.services[service_.value].refusals[static_cast<std::size_t>(reason)].add();
  release_backend(core);
  state_ = State::refusing;
  if (backend_ >= 0) leave_backend(core);
  Relay& relay = at(Direction::to_backend);
  if (!relay.sending) relay.drop_held(core.blocks);
  if (relay.eof) return close(core, CloseReason::refused);
  relay.goal = Goal::receive;
  if (relay.armed == Armed::nothing) settle_source(core, Direction::to_backend);
  const Service& service = core.service(service_);
  if (service.refusal.delay.count() == 0) return say_refusal(core);
  deadline_ = core.tick + ticks(service.refusal.delay);
  core.wheel.set(slot_, deadline_);
}

mail::RefusalStyle Session::refusal_style(const Core& core) const {
  const Service& service = core.service(service_);
  return {.protocol = service.protocol,
          .deny_reply = service.deny_reply,
          .hostname = service.hostname,
          .text = service.refusal.text};
}

/// The text and, unless the client still has to say QUIT, the FIN.
void Session::say_refusal(Core& core) {
  refusal_said_ = true;
  std::array<char, mail::kRefusalBytesMax> text;
  const mail::RefusalStyle style = refusal_style(core);
  const std::size_t length = mail::write_refusal(text, style, refusal_);
  awaits_quit_ = mail::refusal_awaits_quit(style, refusal_);
  say(core, {text.data(), length}, !awaits_quit_);
  deadline_ = core.tick + ticks(core.tuning.refusal_patience);
  core.wheel.set(slot_, deadline_);
}

/// Few bytes into a socket that has sent next to nothing yet: they fit, or the client has gone and
/// nothing more is said.
void Session::say(Core& core, std::string_view text, bool last) {
  const std::array parts{std::as_bytes(std::span(text))};
  const bool sent = !text.empty() && core.io.send_now(client_, parts, last) ==
                                         static_cast<std::ptrdiff_t>(text.size());
  if (sent) return;
  awaits_quit_ = false;
  core.io.shutdown_write(client_);
}

/// A client that was told 554 says QUIT, or something else.
void Session::on_refused_bytes(Core& core, std::span<const std::byte> bytes) {
  if (!awaits_quit_ || !refusal_said_ || denied_.finished()) return;
  std::array<char, mail::DeniedDialogue::kReplyBytesMax> replies;
  const std::size_t length = denied_.take(text_of(bytes), replies, core.service(service_).hostname);
  if (length > 0) say(core, {replies.data(), length}, denied_.finished());
}

bool Session::owed() const {
  return client_spoke_last_ || !relays_[0].empty() || !relays_[1].empty();
}

/// The address that the client connected to.
Address Session::vip(const Core& core) const {
  return vip_.is_any() && client_ >= 0 ? core.io.local_address(client_) : vip_;
}

SessionLook Session::look(const Core& core) const {
  SessionLook look;
  look.id = id_;
  look.client = client_address_;
  look.vip = vip(core);
  look.service = service_;
  look.backend = backend_id_;
  look.state = state_;
  look.age = core.now - started_;
  look.bytes_to_backend = relays_[index(Direction::to_backend)].bytes_total;
  look.bytes_to_client = relays_[index(Direction::to_client)].bytes_total;
  look.client_spoke_last = client_spoke_last_;
  return look;
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
  if (abandoning_ && is_backends(done.tag)) return on_abandoned(core, done);
  Relay& relay = at(direction);
  switch (done.tag.op) {
    case Op::connect:
      connecting_ = false;
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

/// The source of `direction` has ended. True: it was the backend that owed its greeting, and the
/// try is over. On a TLS port a server may tire of a client that says nothing: its end is the
/// session's.
bool Session::greeting_failed(Core& core, Direction direction, TryOutcome outcome) {
  if (state_ != State::greeting || direction != Direction::to_client) return false;
  if (owes_greeting(core)) {
    try_failed(core, outcome);
    return true;
  }
  begin_relaying(core);
  return false;
}

void Session::on_eof(Core& core, Direction direction) {
  if (greeting_failed(core, direction, TryOutcome::closed)) return;
  Relay& relay = at(direction);
  relay.eof = true;
  relay.goal = Goal::end;
  last_activity_ = core.tick;
  if (!at(opposite(direction)).eof) first_fin_ = direction;
  switch (state_) {
    case State::opening:
      return close(core, CloseReason::client_gone);
    case State::queued:
    case State::connecting:
    case State::greeting:
      // Mail clients wait for the greeting: one that closes before it has said anything has left.
      // Elsewhere a FIN may be all that a client wants to say first.
      if (core.service(service_).protocol != Protocol::tcp &&
          (relay.held_bytes == 0 || is_implicit_tls(core.service(service_).protocol)))
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
    case State::closing:
      return;
  }
}

void Session::on_source_error(Core& core, Direction direction) {
  if (greeting_failed(core, direction, TryOutcome::reset)) return;
  at(direction).goal = Goal::end;
  switch (state_) {
    case State::opening:
    case State::queued:
    case State::connecting:
    case State::greeting:
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
    case State::closing:
      return;
  }
}

// ---- time ----

void Session::on_timer(Core& core) {
  const bool due = core.tick >= deadline_;
  switch (state_) {
    case State::opening:
      if (!due) return core.wheel.set(slot_, deadline_);
      if (core.service(service_).accept_proxy == config::AcceptProxy::optional &&
          at(Direction::to_backend).held_bytes == 0)
        return opened(core);
      return refuse_header(core, "no whole PROXY header in time");
    case State::queued:
      return on_queue_timer(core);
    case State::connecting:
      if (abandoning_) return;  // connecting begins when the last backend is left
      if (!due) return core.wheel.set(slot_, deadline_);
      connect_timed_out_ = true;  // the completion, -ECANCELED or a late success, decides
      core.io.cancel(tag(Op::connect, Direction::to_backend));
      return;
    case State::greeting:
      if (due) return on_greeting_timeout(core);
      far_timer_ = true;
      return core.wheel.set(slot_, deadline_);
    case State::relaying:
      return set_timer(core);
    case State::resetting:
      return finish_reset(core);
    case State::refusing:
      if (!due) return core.wheel.set(slot_, deadline_);
      return refusal_said_ ? close(core, CloseReason::refused) : say_refusal(core);
    case State::free:
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
  if (state_ == State::queued) leave_queue(core);
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
  if (connecting_) core.io.cancel(tag(Op::connect, Direction::to_backend));
  settle_turn(core);
  count_end(core);
  write_record(core);
  release_if_quiet(core);
}

void Session::shut_down(Core& core) {
  const bool ungreeted =
      state_ == State::queued || state_ == State::connecting || state_ == State::greeting;
  if (ungreeted) {
    refuse(core, RefusalReason::shutting_down);
    if (state_ == State::refusing && !refusal_said_) say_refusal(core);  // now, whatever its delay
  }
  close(core, ungreeted ? CloseReason::refused : CloseReason::shutdown);
}

/// While it relays for its backend at once, so that a long session is seen; before that it is not
/// known whose bytes they are.
void Session::count_received(Core& core, Direction direction, std::uint64_t bytes) {
  at(direction).bytes_total += bytes;
  if (state_ == State::relaying || state_ == State::resetting)
    core.counters.pairs[pair_].bytes[index(direction)].add(bytes);
}

void Session::count_end(Core& core) {
  PairCounters& pair = core.counters.pairs[served() ? pair_ : core.service(service_).pair_none];
  if (!served()) pair.sessions_started.add();
  pair.sessions_ended[static_cast<std::size_t>(reason_)].add();
  if (!served())  // else counted as it came
    for (const Direction direction : kDirections)
      pair.bytes[index(direction)].add(at(direction).bytes_total);
  core.counters.durations[service_.value].session.add(core.now - started_);
}

void Session::write_record(Core& core) {
  if (core.reports.sessions == nullptr || !core.reports.sessions->enabled()) return;
  SessionRecord record;
  record.id = id_;
  record.ended_unix_us =
      duration_cast<microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  record.client = client_address_;
  record.vip = vip(core);
  record.service = service_;
  record.backend = backend_id_;
  if (backend_ >= 0 && backend_id_ && !abandoning_) {
    record.source = core.io.local_address(backend_);
    record.destination = core.registries.backend_addresses[backend_id_.value];
  }
  record.queue_us = queue_us_;
  record.connect_us = connect_us_;
  record.greeting_us = greeting_us_;
  record.total_us =
      static_cast<std::uint64_t>(duration_cast<microseconds>(core.now - started_).count());
  record.bytes_to_backend = at(Direction::to_backend).bytes_total;
  record.bytes_to_client = at(Direction::to_client).bytes_total;
  record.close_reason = reason_;
  record.refusal = refusal_;
  record.state = state_at_end_;
  record.sticky = sticky_;
  record.early = early_;
  record.client_spoke_last = client_spoke_last_;
  std::array<TryRecord, kTryRecords + 1> tries;
  if (tries_ != Lender<Tries>::kNone) {
    const Tries& failed = core.tries[tries_];
    std::size_t count = std::min<std::size_t>(failed.count, kTryRecords);
    std::copy_n(failed.records.begin(), count, tries.begin());
    // A reply that was passed on because nobody gave a better one is there already.
    if (served() && (failed.count == 0 || failed.tried[failed.count - 1u] != backend_id_))
      tries[count++] = TryRecord{.backend = backend_id_, .outcome = TryOutcome::ok, .words = {}};
    record.tries = std::span(tries).first(count);
  }
  core.reports.sessions->write(record);
}

void Session::write_start(Core& core) {
  SessionStart start;
  start.id = id_;
  start.started_unix_us =
      duration_cast<microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  start.client = client_address_;
  start.vip = vip(core);
  start.service = service_;
  core.reports.sessions->write_start(start);
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
  if (has_place_)
    give_back(core, {.slot = slot_, .service = service_, .backend = backend_id_, .turn = false});
  if (source_ticket_) core.registries.services[service_.value].sources->leave(source_ticket_);
  core.registries.services[service_.value].sessions.fetch_sub(1, std::memory_order_relaxed);
  if (tries_ != Lender<Tries>::kNone) {
    core.tries[tries_].kept.drop_held(core.blocks);
    core.tries.give_back(tries_);
  }
  state_ = State::free;
  ++generation_;
  core.free_slot(slot_);
}

}  // namespace poise::proxy
