#include "loadgen/server/serve_loop.h"

#include <fmt/format.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "loadgen/loop/socket.h"
#include "mail/proxy_header.h"
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
                     Nanos idle_timeout, std::shared_ptr<const tls::Context> tls,
                     std::vector<Event> events)
    : mailbox_(std::move(mailbox)),
      idle_timeout_(idle_timeout),
      tls_(std::move(tls)),
      events_(std::move(events)),
      buffer_(kBufferBytes) {
  std::stable_sort(events_.begin(), events_.end(),
                   [](const Event& a, const Event& b) { return a.at < b.at; });
  books_.ledger = std::move(ledger);
  for (ServerSpec& spec : specs)
    servers_.push_back(std::make_unique<Server>(std::move(spec), books_));
}

ServeLoop::~ServeLoop() = default;

Result<void> ServeLoop::open() {
  for (const auto& server : servers_) {
    CHECK(tls_ || (!server->spec.settings.tls && !is_implicit_tls(server->spec.settings.protocol)));
    if (const Result<void> opened = listen(*server); !opened) return opened.error();
    server->address = bound_address(server->listener.get());
  }
  return {};
}

Result<void> ServeLoop::listen(Server& server) {
  Result<net::Fd> listener =
      open_server(server.address ? server.address : server.spec.listen, server.spec.faults.refuse);
  if (!listener) return listener.error();
  server.listener = std::move(*listener);
  word_refusal(server);
  return {};
}

/// 421 and 554 stand for what the protocol says then.
void ServeLoop::word_refusal(Server& server) {
  std::string& greet = server.spec.faults.greet;
  const ServerSettings& settings = server.spec.settings;
  if (greet == "421" || greet == "554")
    greet = refusal_greeting(settings.protocol, settings.name, greet == "421");
}

void ServeLoop::run() {
  began_ = now_ = now();
  alive_ = count();
  schedule_next();
  poller_.add_readable(stop_signal_.fd(), {signal_slot(), 0});
  for (std::uint32_t at = 0; at < count(); ++at) {
    Server& server = *servers_[at];
    if (!server.spec.faults.refuse) {
      poller_.add_readable(server.listener.get(), {at, 0});
    }
    if (server.spec.faults.die_at > 0)
      deadlines_.set(death_slot(at), now_ + server.spec.faults.die_at);
  }
  while (!stopping_ && (alive_ > 0 || next_event_ < events_.size())) {
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
  session.wire.messages = session.wire.served = session.wire.replies = 0;
  session.wire.paced = server.spec.faults.capacity > 0;
  session.securing = false;
  session.awaits_header = server.spec.proxy;
  const Faults& faults = server.spec.faults;
  if (faults.reset) reset_on_close(session.fd.get());
  if (faults.reset || faults.close) return end(session);
  session.dialogue = make_server_dialogue(server.spec.settings, mailbox_, server.intake);
  poller_.add_connection(session.fd.get(), {session.slot, session.generation});
  if (session.awaits_header || faults.silence) return wait_idle(session);
  if (is_implicit_tls(server.spec.settings.protocol)) {
    begin_tls(session);
    return wait_idle(session);
  }
  greet_in_time(session);
  if (session.wait == Wait::greeting) return;
  wait_idle(session);
  pump(session);
}

void ServeLoop::greet_in_time(Session& session) {
  const Faults& faults = servers_[session.server]->spec.faults;
  if (faults.delay > 0)
    wait_for(session, Wait::greeting, now_ + faults.delay);
  else
    session.dialogue->greet(faults.greet, session.wire);
}

void ServeLoop::greet(Session& session) {
  session.dialogue->greet(servers_[session.server]->spec.faults.greet, session.wire);
  wait_idle(session);
  pump(session);
}

bool ServeLoop::take_header(Session& session, std::string_view bytes) {
  ServerTally& tally = servers_[session.server]->tally;
  session.pending.append(bytes);
  const mail::ProxyHeader header = mail::parse_proxy_header(session.pending);
  switch (header.status) {
    case mail::ProxyHeaderStatus::need_more:
      return true;
    case mail::ProxyHeaderStatus::absent:
    case mail::ProxyHeaderStatus::malformed:
      ++tally.proxy_bad;
      return false;
    case mail::ProxyHeaderStatus::complete:
      break;
  }
  ++tally.proxied;
  session.pending.erase(0, header.length);
  session.awaits_header = false;
  if (!is_implicit_tls(servers_[session.server]->spec.settings.protocol)) {
    greet_in_time(session);
    return true;
  }
  begin_tls(session);
  const std::string early = std::exchange(session.pending, {});
  return early.empty() || decrypt(session, early);
}

void ServeLoop::begin_tls(Session& session) {
  session.tls = std::make_unique<tls::Engine>(tls_);
  session.securing = true;
  session.ciphertext.clear();
  session.ciphertext_sent = 0;
  session.tls->start();
}

bool ServeLoop::decrypt(Session& session, std::string_view bytes) {
  Server& server = *servers_[session.server];
  session.tls->receive(bytes);
  if (session.tls->state() == tls::Engine::State::failed) {
    ++server.tally.tls_failed;
    return false;
  }
  if (session.securing && session.tls->state() == tls::Engine::State::open) {
    session.securing = false;
    ++server.tally.tls;
    session.dialogue->secured(session.wire);
    if (is_implicit_tls(server.spec.settings.protocol)) greet_in_time(session);
  }
  session.tls->take_plaintext(session.pending);
  return true;
}

std::size_t ServeLoop::fill(Session& session, iovec* vectors, std::size_t count,
                            std::size_t limit) {
  Output& out = session.wire.out;
  if (!session.tls) return out.front(vectors, count, limit);
  if (session.ciphertext_sent == session.ciphertext.size()) {
    session.ciphertext.clear();
    session.ciphertext_sent = 0;
    if (session.tls->state() == tls::Engine::State::open) {
      const std::size_t pieces = out.front(vectors, count, std::min(limit, kBufferBytes));
      std::size_t taken = 0;
      for (std::size_t at = 0; at < pieces; ++at) {
        session.tls->send({static_cast<const char*>(vectors[at].iov_base), vectors[at].iov_len});
        taken += vectors[at].iov_len;
      }
      out.consume(taken);
    }
    session.tls->take_ciphertext(session.ciphertext);
  }
  if (session.ciphertext.empty()) return 0;
  vectors[0] = {session.ciphertext.data() + session.ciphertext_sent,
                session.ciphertext.size() - session.ciphertext_sent};
  return 1;
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
    if (session.wire.start_tls) {
      session.wire.start_tls = false;
      session.pending.clear();  // RFC 3207 4.2: what came in clear behind STARTTLS does not count
      begin_tls(session);
    }
    if (!session.pending.empty() && !session.awaits_header) {
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
  while (true) {
    const bool due = !session.wire.out.empty() || session.tls;
    if (due && (session.blocked || (trickle > 0 && session.wait == Wait::trickle)))
      return Sent::not_yet;
    iovec vectors[64];
    msghdr message{};
    message.msg_iov = vectors;
    message.msg_iovlen = fill(session, vectors, 64,
                              trickle > 0 ? std::max<std::uint64_t>(trickle / 10, 1) : SIZE_MAX);
    if (message.msg_iovlen == 0) return Sent::all;
    const ssize_t sent = sendmsg(session.fd.get(), &message, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return Sent::gone;
      session.blocked = true;
      return Sent::not_yet;
    }
    servers_[session.server]->tally.bytes_out += static_cast<std::uint64_t>(sent);
    if (session.tls)
      session.ciphertext_sent += static_cast<std::size_t>(sent);
    else
      session.wire.out.consume(static_cast<std::size_t>(sent));
    session.active_at = now_;
    if (trickle > 0)
      wait_for(session, Wait::trickle,
               now_ + std::max<Nanos>(kSecond / 10, kSecond / static_cast<Nanos>(trickle)));
  }
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
  if (servers_[session.server]->spec.faults.silence) return Got::some;
  const std::string_view received(buffer_.data(), bytes);
  if (session.awaits_header) return take_header(session, received) ? Got::some : Got::gone;
  if (session.tls) return decrypt(session, received) ? Got::some : Got::gone;
  feed(session, received);
  return Got::some;
}

void ServeLoop::feed(Session& session, std::string_view bytes) {
  session.dialogue->receive(bytes, session.wire);
  session.pending.assign(bytes);
  if (session.wire.messages == 0) return;
  Server& server = *servers_[session.server];
  server.tally.served += std::exchange(session.wire.served, 0);
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
  if (slot == schedule_slot()) {
    happen(events_[next_event_++]);
    return schedule_next();
  }
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
  if (session.tls && session.wire.close) {  // with a close_notify: nothing was cut off
    session.ciphertext.clear();
    session.tls->close();
    session.tls->take_ciphertext(session.ciphertext);
    send(session.fd.get(), session.ciphertext.data(), session.ciphertext.size(), MSG_NOSIGNAL);
  }
  session.fd.reset();
  ++session.generation;
  session.dialogue.reset();
  session.tls.reset();
  session.ciphertext.clear();
  session.ciphertext_sent = 0;
  session.wire.start_tls = false;
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

void ServeLoop::schedule_next() {
  if (next_event_ < events_.size())
    deadlines_.set(schedule_slot(), began_ + events_[next_event_].at);
}

void ServeLoop::happen(const Event& event) {
  for (std::uint32_t at = 0; at < count(); ++at) {
    Server& server = *servers_[at];
    if (!event.server_name.empty() && event.server_name != server.spec.settings.name) continue;
    if (event.kind == Event::Kind::stop) {
      kill(at);
      continue;
    }
    Faults& faults = server.spec.faults;
    const bool refused = faults.refuse;
    if (event.kind == Event::Kind::heal) {
      const double capacity = faults.capacity;
      faults = {};
      faults.capacity = capacity;
    } else if (event.kind == Event::Kind::fault) {
      CHECK(add_fault(event.fault, faults));
    } else if (server.tally.died) {
      server.tally.died = false;
      ++alive_;
    } else {
      continue;  // it runs already
    }
    if (server.tally.died) continue;
    // A listener knows whether it refuses from its making.
    if (server.listener && refused == faults.refuse) {
      word_refusal(server);
      continue;
    }
    server.listener.reset();
    deadlines_.clear(at);
    if (const Result<void> opened = listen(server); !opened) {
      fmt::print(stderr, "poise-load: {}\n", opened.error().text());
      kill(at);
      continue;
    }
    if (!faults.refuse) poller_.add_readable(server.listener.get(), {at, 0});
  }
}

}  // namespace poise::loadgen
