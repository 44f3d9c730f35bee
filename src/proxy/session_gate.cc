#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "balance/hash.h"
#include "mail/greeting.h"
#include "mail/proxy_header.h"
#include "poise/check.h"
#include "proxy/session.h"

/// Session's way to a backend: choosing one, connecting, judging its greeting, trying another.
namespace poise::proxy {

using io::Direction;
using io::Op;
using std::chrono::duration_cast;
using std::chrono::microseconds;

namespace {

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

/// The beginning of what a backend said, for the log.
void copy_words(std::array<char, 80>& words, std::string_view line) {
  std::copy_n(line.begin(), std::min(line.size(), words.size()), words.begin());
}

std::uint32_t saturated_us(io::Time time) {
  const auto us = duration_cast<microseconds>(time).count();
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(us, 0, UINT32_MAX));
}

/// The backend that this source prefers of those not tried: the same for all its sessions, and for
/// other sources another (rendezvous hashing).
BackendId favourite(const balance::Pool& pool, std::span<const BackendId> tried,
                    const Address& key) {
  BackendId best;
  std::uint64_t best_score = 0;
  for (const balance::Member& member : pool.members()) {
    if (!member.up || !member.enabled || member.weight == 0 || member.tier != pool.active_tier() ||
        std::find(tried.begin(), tried.end(), member.id) != tried.end())
      continue;
    const std::uint64_t score =
        balance::mix(balance::hash_ip(key) ^ balance::hash_endpoint(member.address));
    if (best && score <= best_score) continue;
    best = member.id;
    best_score = score;
  }
  return best;
}

void release(balance::BackendState& backend, bool with_turn) {
  if (with_turn) backend.brakes.settled();
  balance::Pool::release(backend);
}

}  // namespace

// ---- choosing ----

Tries& Session::tries(Core& core) {
  if (tries_ == Lender<Tries>::kNone) tries_ = core.tries.take();
  return core.tries[tries_];
}

Address Session::source(const Core& core) const {
  const Service& service = core.service(service_);
  return masked(client_address_,
                client_address_.is_v4() ? service.source_prefix_v4 : service.source_prefix_v6);
}

/// The backends that have failed this session.
std::span<const BackendId> Session::failed(Core& core) const {
  if (tries_ == Lender<Tries>::kNone) return {};
  return core.tries[tries_].failed();
}

/// What is left of the time and the tries in which the client must be greeted.
bool Session::may_try_another(const Core& core, std::size_t tried) const {
  const Service& service = core.service(service_);
  return tried < std::min<std::size_t>(service.greeting.tries, Tries::kMax) &&
         (!service.gate || core.tick < budget_end(core));
}

Tick Session::budget_end(const Core& core) const {
  const io::Time spent = core.now - started_ - microseconds(queue_us_);
  const auto left =
      core.service(service_).greeting.budget - duration_cast<std::chrono::milliseconds>(spent);
  return left.count() <= 0 ? core.tick : core.tick + ticks(left);
}

balance::Pick Session::choose(Core& core, std::span<const BackendId> tried) {
  const Service& service = core.service(service_);
  balance::PickRequest request;
  request.source = source(core);
  request.random = core.next_random();
  request.tried = tried;
  request.now = core.now;
  if (service.sticky == nullptr || service.sticky_except.contains(client_address_))
    return service.pool->pick(request);
  return choose_sticky(core, request);
}

/// The backend that the source's sessions go to while it is up. One that a client cannot be served
/// by now (full, tried, braked) keeps its sources; one that is down, drained or gone loses them for
/// good, and whoever looks for another finds the same, so that a source's sessions stay together.
balance::Pick Session::choose_sticky(Core& core, balance::PickRequest& request) {
  const Service& service = core.service(service_);
  const balance::Pool& pool = *service.pool;
  const Address key = masked(client_address_, client_address_.is_v4() ? service.sticky_prefix_v4
                                                                      : service.sticky_prefix_v6);
  const std::optional<BackendId> placed = service.sticky->find(key, core.now);
  sticky_ = StickyUse::none;
  const bool tried = placed && std::find(request.tried.begin(), request.tried.end(), *placed) !=
                                   request.tried.end();
  const balance::Member* own = placed ? pool.find(*placed) : nullptr;
  if (own != nullptr && own->up && own->enabled && own->weight > 0) {
    request.preferred = tried ? favourite(pool, request.tried, key) : *placed;
    const balance::Pick pick = pool.pick(request);
    if (pick.result == balance::PickResult::chosen && pick.member == own) sticky_ = StickyUse::hit;
    return pick;
  }
  if (placed) {
    request.preferred = favourite(pool, request.tried, key);
    const balance::Pick pick = pool.pick(request);
    // Nobody is better off: the source may find its own again.
    if (pick.result != balance::PickResult::chosen || !pick.member->up) return pick;
    sticky_ = StickyUse::moved;
    return follow(core, request, pick,
                  service.sticky->move(key, *placed, pick.member->id, core.now).backend);
  }
  balance::Pick pick = pool.pick(request);
  if (pick.result == balance::PickResult::chosen &&
      !service.sticky->may_take(pick.member->id, service.sticky_max_share)) {
    // It has its share of all sources: another, if there is one that has not.
    std::array<BackendId, Tries::kMax + 1> avoided;
    std::copy(request.tried.begin(), request.tried.end(), avoided.begin());
    avoided[request.tried.size()] = pick.member->id;
    balance::PickRequest other = request;
    other.tried = std::span(avoided).first(request.tried.size() + 1);
    const balance::Pick second = pool.pick(other);
    if (second.result == balance::PickResult::chosen) {
      give_back(core, {.service = service_, .backend = pick.member->id});
      pick = second;
    }
  }
  if (pick.result != balance::PickResult::chosen) return pick;
  sticky_ = StickyUse::inserted;
  return follow(core, request, pick,
                service.sticky->insert_if_absent(key, pick.member->id, core.now).backend);
}

/// Another worker was quicker to place the source: its choice, if it can be had.
balance::Pick Session::follow(Core& core, balance::PickRequest& request, const balance::Pick& pick,
                              BackendId placed) {
  if (placed == pick.member->id) return pick;
  request.preferred = placed;
  const balance::Pick other = core.service(service_).pool->pick(request);
  if (other.result != balance::PickResult::chosen) return pick;
  const bool found = other.member->id == placed;
  give_back(core, {.service = service_, .backend = (found ? pick : other).member->id});
  return found ? other : pick;
}

/// The chosen backend is ours now: its place and its turn.
void Session::adopt(Core& core, const balance::Member& member) {
  const Service& service = core.service(service_);
  has_place_ = has_turn_ = true;
  backend_id_ = member.id;
  pair_ = service.pairs[static_cast<std::size_t>(&member - service.pool->members().data())];
}

void Session::settle_turn(Core& core) {
  if (has_turn_) core.registries.backends[backend_id_.value].brakes.settled();
  has_turn_ = false;
}

void Session::release_backend(Core& core) {
  if (has_place_) give_back(core, {.service = service_, .backend = backend_id_, .turn = has_turn_});
  has_place_ = has_turn_ = false;
  backend_id_ = BackendId{};
}

void Session::connect_next(Core& core) {
  const Service& service = core.service(service_);
  const bool queues = service.queue.length > 0;
  for (;;) {
    const std::span<const BackendId> tried = failed(core);
    if (!may_try_another(core, tried.size())) return refuse(core, RefusalReason::all_failed);
    // Who comes later does not overtake those who wait.
    if (tried.empty() && queues && service.waiters->anyone()) return join_queue(core);
    const balance::Pick pick = choose(core, tried);
    // A try that our own side failed ends here; turn_to() leaves the others.
    const bool goes_on = pick.result == balance::PickResult::chosen ||
                         (pick.result == balance::PickResult::full && queues);
    if (goes_on && !tried.empty() && core.tries[tries_].last_outcome == TryOutcome::local)
      note_retry(core);
    switch (pick.result) {
      case balance::PickResult::chosen:
        break;
      case balance::PickResult::full:
        return queues ? join_queue(core) : refuse(core, RefusalReason::queue_full);
      case balance::PickResult::no_backend:
        return refuse(core, tried.empty() ? RefusalReason::no_backend : RefusalReason::all_failed);
    }
    adopt(core, *pick.member);
    if (connect_backend(core)) return;
  }
}

// ---- queued ----

void Session::give_back(Core& core, const Place& place) {
  release(core.registries.backends[place.backend.value], place.turn);
  serve_waiters(core, core.service(place.service));
}

void Session::serve_waiters(Core& core, const Service& service) {
  if (service.waiters == nullptr || !service.waiters->anyone()) return;
  service.waiters->serve(
      [&]() -> std::optional<BackendId> {
        balance::PickRequest request;
        request.random = core.next_random();
        request.now = core.now;
        const balance::Pick pick = service.pool->pick(request);
        if (pick.result != balance::PickResult::chosen) return std::nullopt;
        return pick.member->id;
      },
      [&](const balance::Waiter& waiter, BackendId backend) {
        core.reports.hand_over(waiter.worker, {.slot = waiter.slot,
                                               .generation = waiter.generation,
                                               .service = service.id,
                                               .backend = backend});
      },
      [&](BackendId backend) { release(core.registries.backends[backend.value], true); });
}

/// Every backend is full: its turn comes after those who came before.
void Session::join_queue(Core& core) {
  const Service& service = core.service(service_);
  Tries& record = tries(core);
  balance::Waiter waiter{.worker = core.reports.worker, .slot = slot_, .generation = generation_};
  waiter.since = core.now;
  for (const BackendId backend : record.failed()) waiter.avoids |= balance::Waiters::avoid(backend);
  record.waiters = service.waiters;
  record.ticket = service.waiters->enqueue(waiter, service.queue.length);
  if (!record.ticket) return refuse(core, RefusalReason::queue_full);
  state_ = State::queued;
  connect_started_us_ = saturated_us(core.now - started_);
  deadline_ = core.tick + ticks(service.queue.timeout);
  on_queue_timer(core);
  serve_waiters(core, service);
}

void Session::on_queue_timer(Core& core) {
  const Service& service = core.service(service_);
  Tries& record = core.tries[tries_];
  if (core.tick < deadline_) {
    // A connect_rate frees places by the mere passing of time.
    if (service.paced) serve_waiters(core, service);
    const Tick look = core.tick + ticks(core.tuning.queue_look);
    return core.wheel.set(slot_, service.paced ? std::min(look, deadline_) : deadline_);
  }
  if (record.waiters->cancel(record.ticket)) {
    record.waiters = nullptr;
    return refuse(core, RefusalReason::queue_timeout);
  }
  core.wheel.set(slot_, core.tick + 1);  // a place is on its way
}

/// Gives its turn up. A place that is on its way already is given back when it arrives.
void Session::leave_queue(Core& core) {
  Tries& record = core.tries[tries_];
  if (record.waiters != nullptr) record.waiters->cancel(record.ticket);
  record.waiters = nullptr;
  const std::uint32_t waited = saturated_us(core.now - started_) - connect_started_us_;
  queue_us_ += waited;
  core.counters.queue_waits[core.service(service_).pool_id.value].add(microseconds(waited));
}

void Session::take_place(Core& core, const Place& place) {
  const balance::Member* member = core.service(service_).pool->find(place.backend);
  core.tries[tries_].waiters = nullptr;
  leave_queue(core);
  state_ = State::connecting;
  if (member == nullptr || !member->enabled) {  // taken out meanwhile
    give_back(core, place);
    return abandoning_ ? void() : connect_next(core);
  }
  adopt(core, *member);
  if (!abandoning_ && !connect_backend(core)) connect_next(core);
}

// ---- connecting ----

/// False: our own side failed, and the try is written down.
bool Session::connect_backend(Core& core) {
  const Service& service = core.service(service_);
  const Address& to = core.registries.backend_addresses[backend_id_.value];
  const int fd = core.io.open_socket(to.family, service.congestion_backend);
  const int error = fd < 0 ? fd : bind_source(core, fd, to);
  if (error < 0) {
    core.warn(Warning::backend_sockets, "no {} towards {}: {}",
              fd < 0 ? "socket" : "source address", to.text(), std::strerror(-error));
    if (fd >= 0) core.io.close(fd);
    note_failure(core, TryOutcome::local, {}, false);
    release_backend(core);
    if (error != -EMFILE && error != -ENFILE && error != -ENOMEM && error != -ENOBUFS) return false;
    refuse(core, RefusalReason::resources);  // the next backend would need a socket too
    return true;
  }
  backend_ = fd;
  connect_timed_out_ = false;
  connect_started_us_ = saturated_us(core.now - started_);
  deadline_ = core.tick + ticks(service.timeouts.connect);
  core.io.connect(backend_, to, tag(Op::connect, Direction::to_backend));
  connecting_ = true;
  ++in_flight_;
  core.wheel.set(slot_, deadline_);
  return true;
}

int Session::bind_source(Core& core, int fd, const Address& to) {
  const config::SourceAddress& from = core.service(service_).source_address;
  if (from.client) {
    if (client_address_.family != to.family) return 0;
    Address client = client_address_;
    client.port = 0;
    return core.io.bind_source(fd, client, true);
  }
  // Several addresses take turns: each has 28,000 ports of its own towards a backend.
  for (std::size_t i = 0; i < from.addresses.size(); ++i) {
    const Address& address = from.addresses[(id_ + i) % from.addresses.size()];
    if (address.family == to.family) return core.io.bind_source(fd, address, false);
  }
  return 0;
}

void Session::on_connect(Core& core, std::int32_t res) {
  if (res < 0) {
    if (res == -EADDRNOTAVAIL)
      core.warn(Warning::backend_sockets,
                "no local port left towards {}: widen net.ipv4.ip_local_port_range, set "
                "net.ipv4.tcp_tw_reuse=1, or give source_address more addresses",
                core.registries.backend_addresses[backend_id_.value].text());
    core.io.close(backend_);
    backend_ = -1;
    return try_failed(core, connect_timed_out_ ? TryOutcome::timeout : outcome_of(res));
  }
  connect_us_ = saturated_us(core.now - started_) - connect_started_us_;
  core.counters.durations[service_.value].connect.add(microseconds(connect_us_));
  state_ = State::greeting;
  const Service& service = core.service(service_);
  if (service.send_proxy != config::SendProxy::off && !send_header(core))
    return try_failed(core, TryOutcome::local);
  receive(core, Direction::to_client);
  if (!service.gate) return begin_relaying(core);
  deadline_ = core.tick + ticks(service.greeting.timeout);
  // The timer stands at the connect's deadline and goes on from there; an earlier one it is told.
  if (service.greeting.timeout < service.timeouts.connect) core.wheel.set(slot_, deadline_);
  const Relay& relay = at(Direction::to_backend);
  if (is_implicit_tls(service.protocol)) return pass_hello(core);
  if (relay.held_bytes > 0 && service.early_talk == config::EarlyTalk::pass) begin_relaying(core);
}

/// The PROXY header, in one piece or not at all: a socket that has sent nothing takes 200 bytes.
bool Session::send_header(Core& core) {
  std::array<char, mail::kProxyBuiltBytesMax> header;
  const Address to = vip(core);
  std::size_t length = 0;
  if (core.service(service_).send_proxy == config::SendProxy::v1) {
    length = mail::build_proxy_v1(header, client_address_, to);
  } else {
    std::array<char, 20> id;  // as in our log, so that the two can be joined
    const auto end = fmt::format_to_n(id.begin(), id.size(), "{}", id_).out;
    length =
        mail::build_proxy_v2(header, client_address_, to,
                             {id.data(), static_cast<std::size_t>(std::distance(id.begin(), end))});
  }
  const std::array parts{std::as_bytes(std::span(header).first(length))};
  return core.io.send_now(backend_, parts, false) == static_cast<std::ptrdiff_t>(length);
}

// ---- what the client says too early ----

/// Bytes from the client while another backend can still be tried.
void Session::on_early(Core& core, std::span<const std::byte> bytes) {
  touch(core, Direction::to_backend);
  count_received(core, Direction::to_backend, bytes.size());
  if (is_implicit_tls(core.service(service_).protocol) && core.service(service_).gate &&
      state_ != State::opening && !keep_hello(core, bytes))
    return;
  if (!hold(core, Direction::to_backend, bytes)) return;
  if (state_ == State::opening) return on_header_bytes(core);
  if (!note_early(core) || state_ != State::greeting) return;
  const Service& service = core.service(service_);
  if (is_implicit_tls(service.protocol)) return pass_hello(core);
  if (service.early_talk == config::EarlyTalk::pass) begin_relaying(core);
}

/// Counts an early talker, once. False: it was refused.
bool Session::note_early(Core& core) {
  const Service& service = core.service(service_);
  if (early_ || !server_speaks_first(service.protocol)) return true;
  early_ = true;
  core.counters.services[service_.value].early_talkers.add();
  if (!service.gate || service.early_talk != config::EarlyTalk::refuse) return true;
  refuse(core, RefusalReason::early_talker);
  return false;
}

/// On a TLS port: what must be said again if another backend is tried. False: no memory, and the
/// session is closed.
bool Session::keep_hello(Core& core, std::span<const std::byte> bytes) {
  Tries& record = tries(core);
  const auto status = record.hello.take(text_of(bytes));
  // Connected, this goes out now and nobody else will be tried.
  if (status == mail::ClientHello::Status::beyond && state_ == State::greeting) return true;
  if (record.kept.append(core.blocks, bytes)) return true;
  close(core, CloseReason::resources);
  return false;
}

/// On a TLS port, connected: the client's bytes go to the backend. More than a ClientHello ends
/// trying others; the greeting is awaited from its last byte on.
void Session::pass_hello(Core& core) {
  const Service& service = core.service(service_);
  const auto status = tries(core).hello.status();
  if (status == mail::ClientHello::Status::beyond) return begin_relaying(core);
  send_held(core, Direction::to_backend);
  deadline_ =
      core.tick + ticks(status == mail::ClientHello::Status::complete ? service.greeting.timeout
                                                                      : service.timeouts.idle);
  core.wheel.set(slot_, deadline_);
  far_timer_ = true;
}

/// The backend is the one to speak: always, but for TLS ports, where the client begins.
bool Session::owes_greeting(Core& core) {
  return !is_implicit_tls(core.service(service_).protocol) ||
         tries(core).hello.status() == mail::ClientHello::Status::complete;
}

// ---- the greeting ----

/// Bytes from the backend, the greeting not judged yet. True: the session relays now, and they are
/// the first to be relayed; false: they have been dealt with.
bool Session::judge(Core& core, std::span<const std::byte> bytes) {
  const Protocol protocol = core.service(service_).protocol;
  Relay& relay = at(Direction::to_client);
  const bool first = relay.held_bytes == 0;
  if (!first && !relay.append(core.blocks, bytes)) {
    close(core, CloseReason::resources);
    return false;
  }
  const mail::GreetingScan scan =
      mail::scan_greeting(protocol, text_of(first ? bytes : relay.front(core.blocks)));
  if (!scan.decided) {
    if (first && !relay.append(core.blocks, bytes)) close(core, CloseReason::resources);
    return false;
  }
  PairCounters& pair = core.counters.pairs[pair_];
  pair.greetings[static_cast<std::size_t>(scan.kind)].add();
  const Service& service = core.service(service_);
  // A TLS port's first byte ends trying others whatever it is: alerts are the client's to read.
  const mail::Verdict verdict =
      is_implicit_tls(protocol)
          ? mail::Verdict::relay
          : mail::verdict_of(scan.kind, service.sees_client, service.greeting.retry_5xx);
  if (verdict == mail::Verdict::try_another) {
    const TryOutcome outcome = scan.kind == GreetingClass::junk        ? TryOutcome::garbage
                               : scan.kind == GreetingClass::permanent ? TryOutcome::rejected
                                                                       : TryOutcome::busy;
    note_failure(core, outcome, scan.line, scan.kind != GreetingClass::junk);
    if (!try_another(core)) return false;
  } else if (scan.kind == GreetingClass::good) {
    balance::BackendState& backend = core.registries.backends[backend_id_.value];
    backend.brakes.greeted();
    const std::int64_t now_ms = core.now_ms();
    if (now_ms - backend.good_greeting_ms.load(std::memory_order_relaxed) >= kGreetingNewsMs)
      backend.good_greeting_ms.store(now_ms, std::memory_order_relaxed);
  }
  begin_relaying(core);
  return first && state_ == State::relaying;  // else what is held ends with these
}

void Session::on_greeting_timeout(Core& core) {
  if (!owes_greeting(core)) return close(core, CloseReason::idle_timeout);
  // Silence is no refusal: as long as nobody else is there to be asked it is waited out.
  std::array<BackendId, Tries::kMax + 1> with_this;
  const std::span<const BackendId> before = failed(core);
  *std::copy(before.begin(), before.end(), with_this.begin()) = backend_id_;
  const auto tried = std::span(with_this).first(before.size() + 1);
  if (may_try_another(core, tried.size())) {
    const balance::Pick pick = choose(core, tried);
    if (pick.result == balance::PickResult::chosen) {
      note_failure(core, TryOutcome::silent, text_of(at(Direction::to_client).front(core.blocks)),
                   false);
      return turn_to(core, *pick.member);
    }
  }
  const Tick end = budget_end(core);
  if (core.tick < end) {
    deadline_ = end;
    return core.wheel.set(slot_, deadline_);
  }
  try_failed(core, TryOutcome::silent);
}

void Session::begin_relaying(Core& core) {
  settle_turn(core);
  if (core.service(service_).gate) {
    greeting_us_ = saturated_us(core.now - started_) - connect_started_us_ - connect_us_;
    core.counters.durations[service_.value].greeting.add(microseconds(greeting_us_));
  }
  state_ = State::relaying;
  PairCounters& pair = core.counters.pairs[pair_];
  pair.sessions_started.add();
  for (const Direction direction : kDirections)  // from now on count_received() does it
    pair.bytes[index(direction)].add(at(direction).bytes_total);
  if (tries_ != Lender<Tries>::kNone) {
    Tries& record = core.tries[tries_];
    record.kept.drop_held(core.blocks);
    if (record.count == 0) {
      core.tries.give_back(tries_);
      tries_ = Lender<Tries>::kNone;
    }
  }
  last_activity_ = core.tick;
  // What was set for the connect comes up in a few seconds and is then set right.
  if (far_timer_) core.wheel.set(slot_, core.tick + ticks(core.tuning.park_after));
  Relay& to_backend = at(Direction::to_backend);
  if (to_backend.held_bytes > 0) {
    send_held(core, Direction::to_backend);
  } else if (to_backend.eof) {
    pass_fin(core, Direction::to_backend);
  }
  send_held(core, Direction::to_client);
}

// ---- trying another ----

/// Writes down what became of the current backend.
void Session::note_failure(Core& core, TryOutcome outcome, std::string_view words, bool answered) {
  Tries& record = tries(core);
  if (record.count < record.records.size()) {
    TryRecord& entry = record.records[record.count];
    entry.backend = backend_id_;
    entry.outcome = outcome;
    copy_words(entry.words, words.substr(0, words.find_first_of("\r\n")));
  }
  CHECK(record.count < Tries::kMax);
  record.tried[record.count++] = backend_id_;
  record.all_answered = record.all_answered && answered;
  record.last_outcome = outcome;
  if (outcome == TryOutcome::local) return;

  const auto prefix = static_cast<std::uint32_t>(balance::hash_ip(source(core)));
  core.report({.backend = backend_id_, .outcome = outcome, .prefix_hash = prefix});
  if (!core.service(service_).gate) return;
  balance::Brakes& brakes = core.registries.backends[backend_id_.value].brakes;
  const std::int64_t pause_ms = brakes.failed(prefix, core.now_ms());
  if (pause_ms > 0 && core.reports.events != nullptr)
    core.warn(Warning::paused, "backend {} gets no new sessions for {} s: {} {}",
              core.reports.events->names().backend_path(backend_id_), pause_ms / 1000,
              name_of(outcome), words.substr(0, words.find_first_of("\r\n")));
}

/// The current backend failed, and not by an answer that could be passed on.
void Session::try_failed(Core& core, TryOutcome outcome) {
  const auto words = text_of(at(Direction::to_client).front(core.blocks));
  if (state_ == State::greeting)
    core.counters.pairs[pair_].greetings[static_cast<std::size_t>(GreetingClass::none)].add();
  note_failure(core, outcome, words, false);
  try_another(core);
}

/// Goes on to another backend, or refuses, and then returns false. True: there is none, all that
/// were asked have answered, and the last answer, still here, is the client's to read.
bool Session::try_another(Core& core) {
  const Tries& record = core.tries[tries_];
  if (may_try_another(core, record.count)) {
    const balance::Pick pick = choose(core, record.failed());
    if (pick.result == balance::PickResult::chosen) {
      turn_to(core, *pick.member);
      return false;
    }
    if (pick.result == balance::PickResult::full && core.service(service_).queue.length > 0) {
      turn_to_queue(core);
      return false;
    }
  }
  if (record.all_answered) return true;
  refuse(core, RefusalReason::all_failed);
  return false;
}

/// The backend that failed is left for another try.
void Session::note_retry(Core& core) {
  TryOutcome& reason = core.tries[tries_].last_outcome;
  core.counters.pairs[pair_].retries[static_cast<std::size_t>(reason)].add();
  reason = TryOutcome::ok;  // counted
  release_backend(core);
}

/// The others are full: from the backend that failed into the queue.
void Session::turn_to_queue(Core& core) {
  note_retry(core);
  join_queue(core);
  if (backend_ >= 0 && state_ == State::queued) leave_backend(core);
}

/// From the backend that failed to `member`.
void Session::turn_to(Core& core, const balance::Member& member) {
  note_retry(core);
  adopt(core, member);
  state_ = State::connecting;
  if (backend_ >= 0) return leave_backend(core);
  if (!connect_backend(core)) connect_next(core);
}

bool Session::is_backends(const io::Tag& tag) {
  return tag.op == Op::connect || (tag.op == Op::send && tag.direction == Direction::to_backend) ||
         ((tag.op == Op::recv || tag.op == Op::poll_in) && tag.direction == Direction::to_client);
}

/// Its socket can be closed only when nothing is armed or in flight on it.
void Session::leave_backend(Core& core) {
  abandoning_ = true;
  const Relay& from = at(Direction::to_client);
  if (connecting_) core.io.cancel(tag(Op::connect, Direction::to_backend));
  if (from.armed != Armed::nothing && !from.cancelling)
    core.io.cancel(tag(from.armed == Armed::recv ? Op::recv : Op::poll_in, Direction::to_client));
  if (at(Direction::to_backend).sending) core.io.cancel(tag(Op::send, Direction::to_backend));
  left_if_quiet(core);
}

void Session::on_abandoned(Core& core, const io::Completion& done) {
  if (done.buffer != io::kNoBuffer) core.io.release_buffer(done.buffer);
  if (done.more) return;
  if (done.tag.op == Op::connect)
    connecting_ = false;
  else if (done.tag.op == Op::send)
    at(Direction::to_backend).sending = false;
  else
    at(Direction::to_client).armed = Armed::nothing;
  left_if_quiet(core);
}

void Session::left_if_quiet(Core& core) {
  Relay& to_backend = at(Direction::to_backend);
  Relay& to_client = at(Direction::to_client);
  if (connecting_ || to_backend.sending || to_client.armed != Armed::nothing) return;
  abandoning_ = false;
  core.io.close(backend_);
  backend_ = -1;
  to_client.drop_held(core.blocks);
  to_client = Relay{};
  if (state_ != State::connecting && state_ != State::queued)
    return to_backend.drop_held(core.blocks);
  if (is_implicit_tls(core.service(service_).protocol)) {
    to_backend.drop_held(core.blocks);
    const bool copied = tries(core).kept.each_stretch(
        core.blocks, [&](auto bytes) { return to_backend.append(core.blocks, bytes); });
    if (!copied) return close(core, CloseReason::resources);
  }
  if (state_ == State::queued) return;
  if (!backend_id_ || !connect_backend(core)) connect_next(core);
}

}  // namespace poise::proxy
