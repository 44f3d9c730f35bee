#include "loadgen/client/run_loop.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "loadgen/loop/socket.h"

namespace poise::loadgen {
namespace {

constexpr std::size_t kBufferBytes = 65536;
constexpr unsigned kStartsAtOnce = 256;  // then the sessions already open get their turn
constexpr Nanos kLinger = 2 * kSecond;   // how long a server may take to close after its goodbye
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

}  // namespace

RunLoop::RunLoop(const Script& script, MessageMaker& messages, std::vector<Address> targets,
                 std::vector<Address> sources, Pace pace, Patience patience, LedgerFile ledger)
    : script_(script),
      messages_(messages),
      targets_(std::move(targets)),
      sources_(std::move(sources)),
      pace_(pace),
      patience_(patience),
      ledger_(std::move(ledger)),
      buffer_(kBufferBytes) {
  tally_.by_target.resize(targets_.size());
}

RunLoop::~RunLoop() = default;

bool RunLoop::more_to_start() const {
  if (pace_.sessions > 0 && tally_.started >= pace_.sessions) return false;
  if (pace_.duration == 0) return true;
  if (open_loop())
    return static_cast<double>(tally_.started) < pace_.rate * seconds(pace_.duration);
  return now_ - began_ < pace_.duration;
}

Nanos RunLoop::next_start() const {
  if (!more_to_start()) return kNever;
  const std::uint64_t room = open_loop() ? pace_.max_concurrent : pace_.clients;
  // A lingering session still has its file descriptor, but in a closed loop its client is free
  // again only when it is closed.
  if (active_ + lingering_ >= room) return kNever;
  if (!open_loop()) return resume_at_;
  return std::max(resume_at_, began_ + nanos(static_cast<double>(tally_.started) / pace_.rate));
}

void RunLoop::start_due() {
  for (unsigned starts = 0; starts < kStartsAtOnce && next_start() <= now_; ++starts) {
    start(open_loop() ? began_ + nanos(static_cast<double>(tally_.started) / pace_.rate) : now());
  }
}

void RunLoop::run(const std::function<void(const RunLoop&)>& on_second) {
  poller_.add_readable(stop_signal_.fd(), {kSignalSlot, 0});
  began_ = last_end_ = now_ = now();
  next_second_ = began_ + kSecond;
  while (!interrupted_) {
    start_due();
    if (active_ + lingering_ == 0 && !more_to_start()) break;
    const auto events = poller_.wait(std::min({deadlines_.earliest(), next_start(), next_second_}));
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
  if (second_.ok + second_.failed > 0) end_second();
  if (interrupted_ || last_end_ == began_) last_end_ = now();
}

void RunLoop::end_second() {
  next_second_ += kSecond;
  if (next_second_ <= now_) next_second_ = now_ + kSecond;  // we were stopped for a while
  if (tally_.intervals.size() < Tally::kMaxIntervals) tally_.intervals.push_back(second_);
  second_ = {};
}

void RunLoop::start(Nanos intended) {
  const std::uint64_t number = tally_.started++;
  const std::size_t target = number % targets_.size();
  ++tally_.by_target[target];
  std::optional<Address> source;
  if (!sources_.empty()) source = sources_[number % sources_.size()];
  net::Fd fd;
  const int error = begin_connect(targets_[target], source, fd);
  if (error != 0) {
    const bool unreachable = error == -ENETUNREACH || error == -EHOSTUNREACH;
    count_failure(unreachable              ? Failure::unreachable
                  : error == -ECONNREFUSED ? Failure::refused
                                           : Failure::local,
                  {});
    if (!unreachable && error != -ECONNREFUSED) resume_at_ = now_ + kPauseAfterLocal;
    return;
  }
  std::uint32_t index;
  if (free_.empty()) {
    index = static_cast<std::uint32_t>(sessions_.size());
    sessions_.push_back(std::make_unique<Session>());
    sessions_.back()->slot = index + kSessionBase;
  } else {
    index = free_.back();
    free_.pop_back();
  }
  Session& session = *sessions_[index];
  session.fd = std::move(fd);
  session.phase = Phase::connecting;
  session.readable = session.blocked = session.hung_up = false;
  session.send_error = 0;
  session.intended_at = intended;
  session.dialogue = make_client_dialogue(script_, messages_, number);
  ++active_;
  poller_.add_connection(session.fd.get(), {session.slot, session.generation});
  deadlines_.set(session.slot, now_ + patience_.connect);
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
  tally_.connect.add(session.connected_at - session.intended_at);
  deadlines_.set(session.slot, now_ + patience_.greeting);
}

void RunLoop::on_deadline(std::uint32_t slot) {
  Session& session = *sessions_[slot - kSessionBase];
  switch (session.phase) {
    case Phase::connecting:
      return fail(session, Failure::connect_timeout);
    case Phase::greeting:
      return fail(session, Failure::greeting_timeout);
    case Phase::talking:
      return fail(session, Failure::timeout);
    case Phase::leaving:
      return release(session);
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
    if (session.phase == Phase::connecting) on_connected(session);
    if (session.phase == Phase::leaving) continue;  // nobody cares what it says after its goodbye
    session.dialogue->receive({buffer_.data(), bytes}, session.wire);
    on_dialogue(session);
    if (session.generation != generation) return;
    if (session.phase != Phase::leaving && !send_some(session)) return;
    // Edge-triggered: after a short read the next arrival brings a new edge, unless the end has
    // been announced already.
    if (bytes < buffer_.size() && !session.hung_up) session.readable = false;
  }
  if (session.phase != Phase::leaving) send_some(session);
}

bool RunLoop::send_some(Session& session) {
  while (!session.wire.out.empty() && !session.blocked) {
    iovec vectors[16];
    msghdr message{};
    message.msg_iov = vectors;
    message.msg_iovlen = session.wire.out.front(vectors, 16);
    const ssize_t sent = sendmsg(session.fd.get(), &message, MSG_NOSIGNAL);
    if (sent >= 0) {
      session.wire.out.consume(static_cast<std::size_t>(sent));
      tally_.bytes_sent += static_cast<std::uint64_t>(sent);
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
    session.send_error = errno;
    if (session.readable) return true;
    on_lost(session, errno);
    return false;
  }
  return true;
}

void RunLoop::on_dialogue(Session& session) {
  collect(session);
  ClientDialogue& dialogue = *session.dialogue;
  if (session.phase == Phase::greeting && dialogue.state() != ClientDialogue::State::greeting) {
    session.phase = Phase::talking;
    tally_.greeting.add(now() - session.connected_at);
    deadlines_.set(session.slot, now_ + patience_.session);
    if (!dialogue.is_leaving()) {
      Tally::count_name(tally_.by_server, dialogue.server_name().empty()
                                              ? "-"
                                              : std::string_view(dialogue.server_name()));
    }
  }
  if (dialogue.state() == ClientDialogue::State::done) return succeed(session);
  if (dialogue.state() == ClientDialogue::State::failed)
    return fail(session, dialogue.failure(), dialogue.code());
}

void RunLoop::collect(Session& session) {
  ClientWire& wire = session.wire;
  if (wire.submits > 0) {
    tally_.submits += wire.submits;
    second_.submits += wire.submits;
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
  tally_.fetches += std::exchange(wire.fetches, 0);
}

void RunLoop::succeed(Session& session) {
  last_end_ = now();
  tally_.session.add(last_end_ - session.intended_at);
  ++tally_.ok;
  ++second_.ok;
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
    case Phase::greeting:
      return fail(session,
                  error == 0 ? Failure::closed_before_greeting : Failure::reset_before_greeting);
    case Phase::talking:
      break;
  }
  if (session.dialogue->is_leaving())
    return fail(session, session.dialogue->failure(), session.dialogue->code());
  fail(session, error == 0 ? Failure::closed : Failure::reset);
}

void RunLoop::count_failure(Failure failure, std::string_view code) {
  ++tally_.failed;
  ++second_.failed;
  ++tally_.failures[static_cast<std::size_t>(failure)];
  if (!code.empty()) Tally::count_name(tally_.codes, code);
  last_end_ = now();
}

void RunLoop::fail(Session& session, Failure failure, std::string_view code) {
  // One that was refused politely and only waits for the answer to its QUIT has that refusal as its
  // cause, not the wait.
  if (session.dialogue->is_leaving()) {
    failure = session.dialogue->failure();
    code = session.dialogue->code();
  }
  count_failure(failure, code);
  --active_;
  ++lingering_;
  release(session);
}

void RunLoop::release(Session& session) {
  --lingering_;
  deadlines_.clear(session.slot);
  session.fd.reset();
  ++session.generation;
  session.dialogue.reset();
  session.wire.out.clear();
  session.wire.accepted.clear();
  session.wire.submits = session.wire.fetches = 0;
  free_.push_back(session.slot - kSessionBase);
}

}  // namespace poise::loadgen
