#include "loadgen/server/serve_loop.h"

#include <fmt/format.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "loadgen/loop/socket.h"
#include "poise/check.h"

namespace poise::loadgen {
namespace {

constexpr std::size_t kBufferBytes = 65536;
constexpr Nanos kAcceptPause =
    100 * kMillisecond;  // out of file descriptors: until some session has ended
constexpr Nanos kDrainCheck = 2 * kMillisecond;
constexpr unsigned kDrainChecks = 500;
constexpr unsigned kAcceptsAtOnce = 256;

Address bound_address(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size);
  return Address::from_sockaddr(storage);
}

}  // namespace

ServeLoop::ServeLoop(std::vector<ServerSpec> specs, Mailbox mailbox, LedgerFile ledger,
                     Nanos idle_timeout)
    : mailbox_(std::move(mailbox)), idle_timeout_(idle_timeout), buffer_(kBufferBytes) {
  books_.ledger = std::move(ledger);
  for (ServerSpec& spec : specs)
    servers_.push_back(std::make_unique<Server>(std::move(spec), books_));
}

ServeLoop::~ServeLoop() = default;

Result<void> ServeLoop::open() {
  for (const auto& server : servers_) {
    Result<net::Fd> listener = open_server(server->spec.listen, server->spec.faults.refuse);
    if (!listener) return listener.error();
    server->listener = std::move(*listener);
    server->address = bound_address(server->listener.get());
    const Faults& faults = server->spec.faults;
    if (faults.greet == "421" || faults.greet == "554") {
      server->spec.faults.greet = refusal_greeting(
          server->spec.settings.protocol, server->spec.settings.name, faults.greet == "421");
    }
  }
  return {};
}

void ServeLoop::run() {
  now_ = now();
  alive_ = count();
  poller_.add_readable(stop_signal_.fd(), {signal_slot(), 0});
  for (std::uint32_t at = 0; at < count(); ++at) {
    Server& server = *servers_[at];
    if (!server.spec.faults.refuse) {
      poller_.add_readable(server.listener.get(), {at, 0});
    }
    if (server.spec.faults.die_at > 0)
      deadlines_.set(death_slot(at), now_ + server.spec.faults.die_at);
  }
  while (!stopping_ && alive_ > 0) {
    const auto events = poller_.wait(deadlines_.earliest());
    now_ = now();
    for (const Poller::Event& event : events) on_event(event);
    std::uint32_t slot = 0;
    while (deadlines_.pop_due(now_, slot)) on_deadline(slot);
  }
}

void ServeLoop::on_event(const Poller::Event& event) {
  const std::uint32_t slot = event.tag.slot;
  if (slot < count()) return accept_from(slot);
  if (slot == signal_slot()) {
    stop_signal_.take();
    stopping_ = true;
    return;
  }
  Session& session = *sessions_[slot - session_base()];
  if (!session.fd || session.generation != event.tag.generation)
    return;  // closed earlier in this batch
  if (event.events & (EPOLLERR | EPOLLHUP)) return end(session);
  if (event.events & EPOLLIN) session.readable = true;
  if (event.events & EPOLLRDHUP) session.hung_up = true;
  if (event.events & EPOLLOUT) session.blocked = false;
  pump(session);
}

void ServeLoop::accept_from(std::uint32_t at) {
  for (unsigned accepts = 0; accepts < kAcceptsAtOnce; ++accepts) {
    Server& server = *servers_[at];
    if (!server.listener) return;  // it has died meanwhile
    net::Fd fd(accept4(server.listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
        pause_accepting(at);
      if (errno == ECONNABORTED || errno == EINTR) continue;
      return;
    }
    begin(at, std::move(fd));
  }
}

void ServeLoop::pause_accepting(std::uint32_t at) {
  // Level-triggered and not accepted: it would spin.
  poller_.remove(servers_[at]->listener.get());
  deadlines_.set(at, now_ + kAcceptPause);
}

void ServeLoop::begin(std::uint32_t at, net::Fd fd) {
  Server& server = *servers_[at];
  ++server.tally.sessions;
  ++server.tally.active;
  std::uint32_t index;
  if (free_.empty()) {
    index = static_cast<std::uint32_t>(sessions_.size());
    sessions_.push_back(std::make_unique<Session>());
    sessions_.back()->slot = index + session_base();
  } else {
    index = free_.back();
    free_.pop_back();
  }
  Session& session = *sessions_[index];
  session.fd = std::move(fd);
  session.server = at;
  session.readable = session.blocked = session.hung_up = false;
  session.drain_checks = 0;
  session.active_at = now_;
  session.wire.close = session.wire.goodbye = false;
  session.wire.messages = session.wire.replies = 0;
  session.wire.paced = server.spec.faults.capacity > 0;
  const Faults& faults = server.spec.faults;
  if (faults.reset) reset_on_close(session.fd.get());
  if (faults.reset || faults.close) return end(session);
  session.dialogue = make_server_dialogue(server.spec.settings, mailbox_, server.intake);
  poller_.add_connection(session.fd.get(), {session.slot, session.generation});
  if (faults.silence) return wait_idle(session);
  if (faults.delay > 0) return wait_for(session, Wait::greeting, now_ + faults.delay);
  greet(session);
}

void ServeLoop::greet(Session& session) {
  session.dialogue->greet(servers_[session.server]->spec.faults.greet, session.wire);
  wait_idle(session);
  pump(session);
}

void ServeLoop::pump(Session& session) {
  const bool silent = servers_[session.server]->spec.faults.silence;
  while (true) {
    if (session.wait == Wait::greeting || session.wait == Wait::capacity ||
        session.wait == Wait::drained)
      return;
    switch (send_due(session)) {
      case Sent::all:
        break;
      case Sent::not_yet:
        return;
      case Sent::gone:
        return end(session);
    }
    if (wants_reset(session)) return reset_when_drained(session);
    if (session.wire.close) return end(session);
    if (!session.pending.empty()) {
      const std::string pending = std::exchange(session.pending, {});
      feed(session, pending);
      continue;
    }
    if (!session.readable) return;
    switch (receive_some(session)) {
      case Got::some:
        break;
      case Got::nothing:
        return;
      case Got::gone:
        return end(session);
    }
    if (silent) session.wire.out.clear();
  }
}

ServeLoop::Sent ServeLoop::send_due(Session& session) {
  const std::uint64_t trickle = servers_[session.server]->spec.faults.trickle;
  while (!session.wire.out.empty()) {
    if (session.blocked || (trickle > 0 && session.wait == Wait::trickle)) return Sent::not_yet;
    iovec vectors[64];
    msghdr message{};
    message.msg_iov = vectors;
    message.msg_iovlen = session.wire.out.front(
        vectors, 64, trickle > 0 ? std::max<std::uint64_t>(trickle / 10, 1) : SIZE_MAX);
    const ssize_t sent = sendmsg(session.fd.get(), &message, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return Sent::gone;
      session.blocked = true;
      return Sent::not_yet;
    }
    servers_[session.server]->tally.bytes_out += static_cast<std::uint64_t>(sent);
    session.wire.out.consume(static_cast<std::size_t>(sent));
    session.active_at = now_;
    if (trickle > 0)
      wait_for(session, Wait::trickle,
               now_ + std::max<Nanos>(kSecond / 10, kSecond / static_cast<Nanos>(trickle)));
  }
  return Sent::all;
}

ServeLoop::Got ServeLoop::receive_some(Session& session) {
  const ssize_t got = recv(session.fd.get(), buffer_.data(), buffer_.size(), 0);
  if (got < 0) {
    if (errno == EINTR) return Got::some;
    session.readable = false;
    return errno == EAGAIN ? Got::nothing : Got::gone;
  }
  if (got == 0) return Got::gone;
  const auto bytes = static_cast<std::size_t>(got);
  // Edge-triggered: after a short read the next arrival brings a new edge, unless the end has been
  // announced already.
  if (bytes < buffer_.size() && !session.hung_up) session.readable = false;
  session.active_at = now_;
  servers_[session.server]->tally.bytes_in += bytes;
  if (!servers_[session.server]->spec.faults.silence) feed(session, {buffer_.data(), bytes});
  return Got::some;
}

void ServeLoop::feed(Session& session, std::string_view bytes) {
  session.dialogue->receive(bytes, session.wire);
  session.pending.assign(bytes);
  if (session.wire.messages == 0) return;
  Server& server = *servers_[session.server];
  const Protocol protocol = server.spec.settings.protocol;
  if (protocol == Protocol::imap || protocol == Protocol::pop3)
    server.tally.served += session.wire.messages;
  if (server.spec.faults.capacity > 0) {
    server.next_free = std::max(now_, server.next_free) +
                       nanos(session.wire.messages / server.spec.faults.capacity);
    wait_for(session, Wait::capacity, server.next_free);
  } else {
    session.wire.messages = 0;
  }
}

bool ServeLoop::wants_reset(const Session& session) const {
  const Faults& faults = servers_[session.server]->spec.faults;
  if (faults.reset_after_quit && session.wire.goodbye) return true;
  return faults.reset_after_replies && session.wire.replies >= *faults.reset_after_replies;
}

void ServeLoop::reset_when_drained(Session& session) {
  // A reset throws away what the peer has not acknowledged, and the reply is what this fault
  // promises to deliver.
  int unacknowledged = 0;
  ioctl(session.fd.get(), SIOCOUTQ, &unacknowledged);
  if (unacknowledged > 0 && session.drain_checks++ < kDrainChecks)
    return wait_for(session, Wait::drained, now_ + kDrainCheck);
  reset_on_close(session.fd.get());
  end(session);
}

void ServeLoop::wait_for(Session& session, Wait wait, Nanos deadline) {
  session.wait = wait;
  deadlines_.set(session.slot, deadline);
}

void ServeLoop::wait_idle(Session& session) {
  wait_for(session, Wait::idle, session.active_at + idle_timeout_);
}

void ServeLoop::on_deadline(std::uint32_t slot) {
  if (slot < count()) {
    if (!servers_[slot]->listener) return;
    poller_.add_readable(servers_[slot]->listener.get(), {slot, 0});
    return;
  }
  if (slot < signal_slot()) return kill(slot - count());
  Session& session = *sessions_[slot - session_base()];
  CHECK(session.fd);
  switch (session.wait) {
    case Wait::greeting:
      return greet(session);
    case Wait::drained:
      session.wait = Wait::idle;
      return reset_when_drained(session);
    case Wait::capacity:
      session.wire.messages = 0;
      [[fallthrough]];
    case Wait::trickle:
      session.active_at = now_;
      wait_idle(session);
      return pump(session);
    case Wait::idle:
      break;
  }
  if (session.active_at + idle_timeout_ > now_) return wait_idle(session);  // it has moved since
  if (session.wire.close || servers_[session.server]->spec.faults.silence) return end(session);
  session.dialogue->time_out(session.wire);
  session.pending.clear();
  session.active_at = now_;
  wait_idle(session);
  pump(session);
}

void ServeLoop::end(Session& session) {
  Server& server = *servers_[session.server];
  --server.tally.active;
  ++(session.wire.goodbye ? server.tally.finished : server.tally.broken);
  deadlines_.clear(session.slot);
  session.fd.reset();
  ++session.generation;
  session.dialogue.reset();
  session.wire.out.clear();
  session.pending.clear();
  session.wait = Wait::idle;
  free_.push_back(session.slot - session_base());
  const std::uint64_t ended = server.tally.finished + server.tally.broken;
  if (server.spec.faults.die_after > 0 && ended == server.spec.faults.die_after)
    kill(session.server);
}

void ServeLoop::kill(std::uint32_t at) {
  // What the kernel does when a process dies: every socket is closed, those with unread data reset.
  Server& server = *servers_[at];
  if (server.tally.died) return;
  server.tally.died = true;
  server.listener.reset();
  deadlines_.clear(at);
  deadlines_.clear(death_slot(at));
  --alive_;
  for (const auto& session : sessions_) {
    if (session->fd && session->server == at) end(*session);
  }
}

}  // namespace poise::loadgen
