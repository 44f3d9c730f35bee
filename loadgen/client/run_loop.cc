#include "loadgen/client/run_loop.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "loadgen/loop/socket.h"
#include "poise/check.h"

namespace poise::loadgen {
namespace {

constexpr std::size_t kBufferBytes = 65536;
constexpr std::size_t kEncryptBytes = 65536;  // at a time; the rest waits until they are sent
constexpr unsigned kStartsAtOnce = 256;       // then the sessions already open get their turn
constexpr Nanos kLinger = 2 * kSecond;  // how long a server may take to close after its goodbye
constexpr Nanos kPauseAfterLocal = 10 * kMillisecond;

/// What an errno means before anything has been received.
Failure connect_failure(int error) {
  switch (error) {
    case ECONNREFUSED:
      return Failure::refused;
    case ETIMEDOUT:
      return Failure::connect_timeout;
    case 0:
      return Failure::closed_before_greeting;
    case ECONNRESET:
    case EPIPE:
      return Failure::reset_before_greeting;  // the connection stood, and is gone
    default:
      return Failure::unreachable;
  }
}

/// Another host, or a later time, may do better.
bool may_retry(Failure failure) {
  return is_connection_error(failure) || failure == Failure::temporary;
}

}  // namespace

RunLoop::RunLoop(RunPlan plan, LedgerFile ledger)
    : plan_(std::move(plan)),
      targets_(plan_.targets),
      ledger_(std::move(ledger)),
      buffer_(kBufferBytes) {
  double weights = 0;
  for (const Block& block : plan_.blocks) weights += block.weight;
  double sum = 0;
  for (std::size_t at = 0; at < plan_.blocks.size(); ++at) {
    const Block& block = plan_.blocks[at];
    const bool own = !block.targets.empty();
    const auto first = own ? static_cast<std::uint32_t>(targets_.size()) : 0u;
    if (own) targets_.insert(targets_.end(), block.targets.begin(), block.targets.end());
    sum += block.weight;
    // Ids of several blocks must differ.
    parts_.push_back({Chooser(plan_.choice, own ? block.targets : plan_.targets),
                      MessageMaker(at == 0 ? plan_.run_id : fmt::format("{}.{}", plan_.run_id, at),
                                   block.sizes, block.script.sender, block.script.recipient),
                      first, sum / weights});
    BlockTally& tally = tally_.blocks.emplace_back();
    tally.name = block.script.name;
    tally.protocol = block.script.protocol;
    CHECK(block.script.tls == Tls::none || plan_.tls);
  }
  tally_.by_target.resize(targets_.size());
}

RunLoop::~RunLoop() = default;

bool RunLoop::more_to_start() const {
  const Pace& pace = plan_.pace;
  if (pace.sessions > 0 && tally_.started >= pace.sessions) return false;
  if (pace.duration == 0) return true;
  if (open_loop()) return static_cast<double>(tally_.started) < pace.rate * seconds(pace.duration);
  return now_ - began_ < pace.duration;
}

bool RunLoop::over() const {
  if (active_ + lingering_ > 0 || more_to_start()) return false;
  // Of a run of so many sessions each is followed to its end; one of so much time ends with it, and
  // what is queued stays in the queue.
  return queued_ == 0 || plan_.pace.duration > 0;
}

Nanos RunLoop::next_start() const {
  if (!more_to_start()) return kNever;
  const Pace& pace = plan_.pace;
  const std::uint64_t room = open_loop() ? pace.max_concurrent : pace.clients;
  // A lingering session still has its file descriptor, but in a closed loop its client is free
  // again only when it is closed.
  if (active_ + lingering_ + thinking_.size() >= room) return kNever;
  if (!open_loop()) return resume_at_;
  return std::max(resume_at_, began_ + nanos(static_cast<double>(tally_.started) / pace.rate));
}

Nanos RunLoop::next_thought() const {
  return thinking_.empty() || !more_to_start() ? kNever : thinking_.top();
}

void RunLoop::start_due() {
  while (!thinking_.empty() && thinking_.top() <= now_) thinking_.pop();
  for (unsigned starts = 0; starts < kStartsAtOnce && next_start() <= now_; ++starts) {
    start(open_loop() ? began_ + nanos(static_cast<double>(tally_.started) / plan_.pace.rate)
                      : now());
  }
}

void RunLoop::run(const std::function<void(const RunLoop&)>& on_second) {
  poller_.add_readable(stop_signal_.fd(), {kSignalSlot, 0});
  began_ = last_end_ = now_ = now();
  next_second_ = began_ + kSecond;
  while (!interrupted_) {
    start_due();
    if (over()) break;
    // With a duration the end itself may be what is waited for.
    const Nanos end = plan_.pace.duration > 0 && now_ - began_ < plan_.pace.duration
                          ? began_ + plan_.pace.duration
                          : kNever;
    const auto events = poller_.wait(
        std::min({deadlines_.earliest(), next_start(), next_thought(), next_second_, end}));
    now_ = now();
    for (const Poller::Event& event : events) on_event(event);
    std::uint32_t slot = 0;
    while (deadlines_.pop_due(now_, slot)) on_deadline(slot);
    if (ledger_ && !ledger_.flush()) ledger_failed_ = true;
    if (now_ >= next_second_) {
      end_second();
      on_second(*this);
    }
  }
  if (second_.ok + second_.failed + second_.connection_errors > 0) end_second();
  if (interrupted_ || last_end_ == began_) last_end_ = now();
}

void RunLoop::end_second() {
  next_second_ += kSecond;
  if (next_second_ <= now_) next_second_ = now_ + kSecond;  // we were stopped for a while
  second_.p50 = second_sessions_.percentile(50);
  second_.p99 = second_sessions_.percentile(99);
  if (tally_.intervals.size() < Tally::kMaxIntervals) tally_.intervals.push_back(second_);
  second_ = {};
  second_sessions_.clear();
}

std::uint32_t RunLoop::pick_block() {
  if (parts_.size() == 1) return 0;
  const double share = random_.share();
  std::uint32_t at = 0;
  while (at + 1 < parts_.size() && share >= parts_[at].up_to) ++at;
  return at;
}

std::uint32_t RunLoop::target_of(const Session& session) const {
  return parts_[session.block].first_target + session.order[session.at];
}

RunLoop::Session& RunLoop::take_slot() {
  if (free_.empty()) {
    sessions_.push_back(std::make_unique<Session>());
    sessions_.back()->slot = static_cast<std::uint32_t>(sessions_.size()) - 1 + kSessionBase;
    return *sessions_.back();
  }
  Session& session = *sessions_[free_.back()];
  free_.pop_back();
  return session;
}

void RunLoop::start(Nanos intended) {
  Session& session = take_slot();
  session.number = tally_.started++;
  session.block = pick_block();
  ++tally_.blocks[session.block].started;
  session.at = 0;
  session.attempts = session.deferrals = 0;
  session.remainder = {};
  session.intended_at = intended;
  session.attempt_at = intended;
  parts_[session.block].chooser.order_for(session.number, now_ - began_, session.order);
  ++active_;
  begin_attempt(session);
}

void RunLoop::begin_attempt(Session& session) {
  const std::uint32_t target = target_of(session);
  ++session.attempts;
  ++tally_.attempts;
  ++tally_.by_target[target].attempts;
  session.phase = Phase::connecting;
  session.readable = session.blocked = session.hung_up = false;
  session.greeted = session.waiting = false;
  session.send_error = 0;
  std::optional<Address> source;
  if (!plan_.sources.empty()) source = plan_.sources[tally_.attempts % plan_.sources.size()];
  const int error = begin_connect(targets_[target].address, source, session.fd);
  if (error != 0) {
    session.fd.reset();
    const bool unreachable = error == -ENETUNREACH || error == -EHOSTUNREACH;
    if (unreachable || error == -ECONNREFUSED)
      return attempt_failed(session, unreachable ? Failure::unreachable : Failure::refused, {});
    resume_at_ = now_ + kPauseAfterLocal;
    return attempt_failed(session, Failure::local, {});
  }
  session.dialogue = make_client_dialogue(block_of(session).script, parts_[session.block].messages,
                                          session.number, session.remainder);
  poller_.add_connection(session.fd.get(), {session.slot, session.generation});
  set_patience(session, now_ + block_of(session).patience.connect);
  peak_ = std::max(peak_, active_ + lingering_);
}

void RunLoop::set_patience(Session& session, Nanos deadline) {
  session.patience_at = deadline;
  deadlines_.set(session.slot, deadline);
}

void RunLoop::on_event(const Poller::Event& event) {
  if (event.tag.slot == kSignalSlot) {
    stop_signal_.take();
    interrupted_ = true;
    return;
  }
  Session& session = *sessions_[event.tag.slot - kSessionBase];
  if (!session.fd || session.generation != event.tag.generation) return;
  if (event.events & EPOLLOUT) session.blocked = false;
  if (event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) session.hung_up = true;
  if (event.events & EPOLLIN || session.hung_up) session.readable = true;
  // A server that greets and resets can be quicker than our wake-up: its words are still there to
  // be read, and the error after them. So what a failed connection was is asked of recv(), not of
  // SO_ERROR, which would take it away.
  const bool failed = (event.events & (EPOLLERR | EPOLLHUP)) != 0;
  if (session.phase == Phase::connecting && !failed) on_connected(session);
  pump(session);
}

void RunLoop::on_connected(Session& session) {
  session.phase = Phase::greeting;
  session.connected_at = now();
  const Nanos took = session.connected_at - session.attempt_at;
  tally_.connect.add(took);
  tally_.blocks[session.block].of(Command::connect).answered.add(took);
  set_patience(session, now_ + block_of(session).patience.greeting);
  if (block_of(session).script.tls == Tls::implicit) begin_tls(session);
}

void RunLoop::begin_tls(Session& session) {
  session.phase = Phase::securing;
  session.tls = std::make_unique<tls::Engine>(plan_.tls, block_of(session).script.tls_name,
                                              targets_[target_of(session)].address);
  session.asked.push_back({Command::tls, now()});
  session.tls->start();
}

void RunLoop::on_secured(Session& session) {
  const Nanos at = now();
  tally_.blocks[session.block].of(Command::tls).answered.add(at - session.asked.front().at);
  session.asked.erase(session.asked.begin());
  if (block_of(session).script.tls_verify) {
    const TlsFacts facts = session.tls->facts();
    if (!facts.verified) {
      Tally::count_name(tally_.tls_errors, facts.verify_result);
      return fail(session, Failure::tls_failed, "certificate");
    }
  }
  if (session.greeted) {
    session.phase = Phase::talking;
    session.dialogue->secured(session.wire);
    collect_events(session);
  } else {
    session.phase = Phase::greeting;
    session.connected_at = at;
    set_patience(session, now_ + block_of(session).patience.greeting);
  }
}

bool RunLoop::decrypt(Session& session, std::string_view bytes) {
  const std::uint32_t generation = session.generation;
  session.tls->receive(bytes);
  if (session.tls->state() == tls::Engine::State::failed) {
    Tally::count_name(tally_.tls_errors, session.tls->error());
    fail(session, Failure::tls_failed);
    return false;
  }
  if (session.phase == Phase::securing && session.tls->state() == tls::Engine::State::open) {
    on_secured(session);
    if (session.generation != generation) return false;
  }
  plaintext_.clear();
  session.tls->take_plaintext(plaintext_);
  if (!plaintext_.empty()) session.dialogue->receive(plaintext_, session.wire);
  return true;
}

void RunLoop::on_deadline(std::uint32_t slot) {
  Session& session = *sessions_[slot - kSessionBase];
  if (session.waiting) {
    session.waiting = false;
    deadlines_.set(slot, session.patience_at);
    const std::uint32_t generation = session.generation;
    session.dialogue->resume(session.wire);
    on_dialogue(session);
    if (session.generation == generation && session.phase != Phase::leaving) send_some(session);
    return;
  }
  switch (session.phase) {
    case Phase::connecting:
      return fail(session, Failure::connect_timeout);
    case Phase::securing:
      return fail(session, session.greeted ? Failure::timeout : Failure::greeting_timeout);
    case Phase::greeting:
      return fail(session, Failure::greeting_timeout);
    case Phase::talking:
      return fail(session, Failure::timeout);
    case Phase::leaving:
      return release(session);
    case Phase::deferred:
      --queued_;
      ++active_;
      session.at = 0;
      session.attempt_at = now_;
      parts_[session.block].chooser.order_for(session.number, now_ - began_, session.order);
      return begin_attempt(session);
  }
}

void RunLoop::pump(Session& session) {
  const std::uint32_t generation = session.generation;
  while (session.readable) {
    const ssize_t got = recv(session.fd.get(), buffer_.data(), buffer_.size(), 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) {
        session.readable = false;
        break;
      }
      return on_lost(session, errno);
    }
    if (got == 0) return on_lost(session, session.send_error);
    const auto bytes = static_cast<std::size_t>(got);
    tally_.bytes_received += bytes;
    tally_.blocks[session.block].bytes_received += bytes;
    if (session.phase == Phase::connecting) on_connected(session);
    if (session.phase == Phase::leaving) continue;  // nobody cares what it says after its goodbye
    const std::string_view received(buffer_.data(), bytes);
    if (!session.tls)
      session.dialogue->receive(received, session.wire);
    else if (!decrypt(session, received))
      return;
    on_dialogue(session);
    if (session.generation != generation) return;
    if (session.phase != Phase::leaving && !send_some(session)) return;
    // Edge-triggered: after a short read the next arrival brings a new edge, unless the end has
    // been announced already.
    if (bytes < buffer_.size() && !session.hung_up) session.readable = false;
  }
  if (session.phase != Phase::leaving) send_some(session);
}

void RunLoop::encrypt(Session& session) {
  session.ciphertext.clear();
  session.ciphertext_sent = 0;
  Output& out = session.wire.out;
  if (session.tls->state() == tls::Engine::State::open) {
    iovec vectors[16];
    const std::size_t count = out.front(vectors, 16, kEncryptBytes);
    std::size_t taken = 0;
    for (std::size_t at = 0; at < count; ++at) {
      session.tls->send({static_cast<const char*>(vectors[at].iov_base), vectors[at].iov_len});
      taken += vectors[at].iov_len;
    }
    out.consume(taken);
  }
  session.tls->take_ciphertext(session.ciphertext);
}

bool RunLoop::send_some(Session& session) {
  while (!session.blocked) {
    iovec vectors[16];
    msghdr message{};
    message.msg_iov = vectors;
    if (session.tls) {
      if (session.ciphertext_sent == session.ciphertext.size()) encrypt(session);
      if (session.ciphertext.empty()) break;
      vectors[0] = {session.ciphertext.data() + session.ciphertext_sent,
                    session.ciphertext.size() - session.ciphertext_sent};
      message.msg_iovlen = 1;
    } else {
      if (session.wire.out.empty()) break;
      message.msg_iovlen = session.wire.out.front(vectors, 16);
    }
    const ssize_t sent = sendmsg(session.fd.get(), &message, MSG_NOSIGNAL);
    if (sent >= 0) {
      const auto bytes = static_cast<std::size_t>(sent);
      if (session.tls)
        session.ciphertext_sent += bytes;
      else
        session.wire.out.consume(bytes);
      tally_.bytes_sent += bytes;
      tally_.blocks[session.block].bytes_sent += bytes;
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN) {
      session.blocked = true;
      return true;
    }
    // What the server said before it reset is worth more than EPIPE: the reason may be waiting to
    // be read. This error has been taken off the socket, so the end will look like an ordinary one.
    session.wire.out.clear();
    session.ciphertext.clear();
    session.ciphertext_sent = 0;
    session.send_error = errno;
    if (session.readable) return true;
    on_lost(session, errno);
    return false;
  }
  return true;
}

void RunLoop::on_dialogue(Session& session) {
  const bool greeted_now =
      !session.greeted && session.dialogue->state() != ClientDialogue::State::greeting;
  if (greeted_now) {
    session.greeted = true;
    session.phase = Phase::talking;
    const Nanos took = now() - session.connected_at;
    tally_.greeting.add(took);
    ClientDialogue& dialogue = *session.dialogue;
    set_patience(session, now_ + block_of(session).patience.session);
    if (!dialogue.is_leaving()) {
      tally_.blocks[session.block].of(Command::greeting).answered.add(took);
      Tally::count_name(tally_.by_server, dialogue.server_name().empty()
                                              ? "-"
                                              : std::string_view(dialogue.server_name()));
    }
  }
  collect(session);
  ClientDialogue& dialogue = *session.dialogue;
  if (dialogue.state() == ClientDialogue::State::done) return succeed(session);
  if (dialogue.state() == ClientDialogue::State::failed)
    return fail(session, dialogue.failure(), dialogue.code());
  ClientWire& wire = session.wire;
  if (wire.start_tls) {
    wire.start_tls = false;
    begin_tls(session);
  } else if (wire.wait > 0) {
    session.waiting = true;
    session.patience_at += wire.wait;
    deadlines_.set(session.slot, now_ + std::exchange(wire.wait, 0));
  }
}

void RunLoop::collect_events(Session& session) {
  ClientWire& wire = session.wire;
  if (wire.events.empty()) return;
  const Nanos at = now();
  for (const CommandEvent& event : wire.events) {
    if (event.kind == CommandEvent::Kind::asked) {
      session.asked.push_back({event.command, at});
      continue;
    }
    CHECK(!session.asked.empty() && session.asked.front().command == event.command);
    if (event.kind == CommandEvent::Kind::refused)
      session.refused = event.command;
    else
      tally_.blocks[session.block].of(event.command).answered.add(at - session.asked.front().at);
    session.asked.erase(session.asked.begin());
  }
  wire.events.clear();
}

void RunLoop::collect(Session& session) {
  collect_events(session);
  ClientWire& wire = session.wire;
  BlockTally& block = tally_.blocks[session.block];
  if (wire.submits > 0) {
    tally_.submits += wire.submits;
    block.submits += wire.submits;
    second_.submits += wire.submits;
    tally_.by_target[target_of(session)].submits += wire.submits;
    session.remainder.messages_done += wire.submits;
    session.remainder.unconfirmed.clear();
    if (ledger_) {
      std::string_view ids = wire.accepted;
      while (!ids.empty()) {
        const std::size_t end = ids.find('\n');
        ledger_.add(ids.substr(0, end));
        ids.remove_prefix(end + 1);
      }
    }
    wire.accepted.clear();
    wire.submits = 0;
  }
  block.fetches += wire.fetches;
  tally_.fetches += std::exchange(wire.fetches, 0);
}

void RunLoop::note_end(const Session& session, Failure failure) {
  last_end_ = now();
  tally_.note_straggler({last_end_ - session.intended_at, session.intended_at - began_,
                         session.number, target_of(session), session.attempts, failure});
}

void RunLoop::succeed(Session& session) {
  note_end(session, Failure::none);
  const Nanos took = last_end_ - session.intended_at;
  BlockTally& block = tally_.blocks[session.block];
  tally_.session.add(took);
  block.session.add(took);
  second_sessions_.add(took);
  ++tally_.ok;
  ++block.ok;
  ++second_.ok;
  if (session.deferrals > 0) {
    ++tally_.deferred_ok;
    tally_.delay.add(took);
  }
  // The server closes first (RFC 5321 3.8): TIME_WAIT is then its, and our port is free for another
  // session.
  session.phase = Phase::leaving;
  --active_;
  ++lingering_;
  deadlines_.set(session.slot, now_ + kLinger);
}

void RunLoop::on_lost(Session& session, int error) {
  switch (session.phase) {
    case Phase::leaving:
      return release(session);
    case Phase::connecting:
      return fail(session, connect_failure(error));
    case Phase::securing:
      if (session.greeted) return fail(session, Failure::tls_failed);
      [[fallthrough]];
    case Phase::greeting:
      return fail(session,
                  error == 0 ? Failure::closed_before_greeting : Failure::reset_before_greeting);
    case Phase::talking:
    case Phase::deferred:
      break;
  }
  if (session.dialogue->is_leaving())
    return fail(session, session.dialogue->failure(), session.dialogue->code());
  fail(session, error == 0 ? Failure::closed : Failure::reset);
}

void RunLoop::count_failure(Session& session, Failure failure, std::string_view code) {
  const auto kind = static_cast<std::size_t>(failure);
  ++tally_.failures[kind];
  Command during = Command::connect;
  if (session.refused)
    during = *session.refused;
  else if (!session.asked.empty())
    during = session.asked.front().command;
  else if (session.phase == Phase::greeting || session.phase == Phase::talking)
    during = session.greeted ? Command::noop : Command::greeting;
  if (failure == Failure::greeting_421 || failure == Failure::greeting_5yz ||
      failure == Failure::greeting_bye || failure == Failure::greeting_junk)
    during = Command::greeting;
  ++tally_.blocks[session.block].of(during).failures[kind];
  if (is_connection_error(failure)) {
    ++second_.connection_errors;
    ++tally_.by_target[target_of(session)].connection_errors;
  }
  if (!code.empty()) Tally::count_name(tally_.codes, code);
}

void RunLoop::fail(Session& session, Failure failure, std::string_view code) {
  // One that was refused politely and only waits for the answer to its QUIT has that refusal as its
  // cause, not the wait.
  if (session.dialogue->is_leaving()) {
    failure = session.dialogue->failure();
    code = session.dialogue->code();
  }
  const std::string kept(code);
  attempt_failed(session, failure, kept);
}

void RunLoop::attempt_failed(Session& session, Failure failure, std::string_view code) {
  count_failure(session, failure, code);
  if (session.dialogue && is_smtp(block_of(session).script.protocol) &&
      !session.dialogue->unconfirmed().empty())
    session.remainder.unconfirmed = session.dialogue->unconfirmed();
  end_connection(session);
  if (!may_retry(failure)) return give_up(session, failure);
  if (session.at + 1 < session.order.size()) {
    ++session.at;
    ++tally_.fallbacks;
    session.attempt_at = now();
    return begin_attempt(session);
  }
  if (session.deferrals >= plan_.retry.times || queued_ >= Retry::kQueueMax)
    return give_up(session, failure);
  ++session.deferrals;
  ++tally_.deferrals;
  --active_;
  ++queued_;
  session.phase = Phase::deferred;
  last_end_ = now();
  deadlines_.set(session.slot, now_ + plan_.retry.after);
}

void RunLoop::give_up(Session& session, Failure failure) {
  note_end(session, failure);
  ++tally_.failed;
  ++tally_.blocks[session.block].failed;
  ++second_.failed;
  --active_;
  ++lingering_;
  release(session);
}

void RunLoop::end_connection(Session& session) {
  deadlines_.clear(session.slot);
  session.fd.reset();
  ++session.generation;
  session.dialogue.reset();
  session.tls.reset();
  session.ciphertext.clear();
  session.ciphertext_sent = 0;
  session.asked.clear();
  session.refused.reset();
  session.wire.clear();
  session.waiting = false;
}

void RunLoop::release(Session& session) {
  --lingering_;
  end_connection(session);
  const Nanos think = block_of(session).think;
  if (!open_loop() && think > 0) thinking_.push(now_ + think);
  free_.push_back(session.slot - kSessionBase);
}

}  // namespace poise::loadgen
