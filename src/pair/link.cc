#include "pair/link.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "net/socket.h"

namespace poise::pair {

using config::LogLevel;

namespace {

constexpr std::size_t kPieceBytes = std::size_t{64} * 1024;

bool same_ip(Address a, Address b) {
  a.port = b.port = 0;
  return a == b;
}

std::string advice(const std::string& error) {
  const bool key = error.find("binder") != error.npos || error.find("alert") != error.npos ||
                   error.find("psk") != error.npos || error.find("signature") != error.npos ||
                   error.find("cipher") != error.npos || error.find("bad extension") != error.npos;
  return key ? error + "; is the same key in key_file on both nodes?" : error;
}

}  // namespace

Link::Link(Options options, Protocol& protocol, std::mutex& mutex, log::Log& log)
    : options_(std::move(options)), protocol_(protocol), mutex_(mutex), log_(log) {}

Result<void> Link::open() {
  auto context = tls::Context::pre_shared(options_.key, !options_.calls);
  if (!context) return context.error();
  context_ = std::move(*context);
  if (options_.calls) return {};
  auto listener = net::open_listener(options_.own, {.backlog = 8});
  if (!listener) return listener.error();
  listener_ = std::move(*listener);
  return {};
}

std::unique_ptr<Link::Connection> Link::make(net::Fd fd, Clock::time_point now) const {
  auto connection = std::make_unique<Connection>();
  const int one = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  connection->fd = std::move(fd);
  connection->tls = options_.calls ? std::make_unique<tls::Engine>(context_, "", options_.peer)
                                   : std::make_unique<tls::Engine>(context_);
  connection->heard = now;
  return connection;
}

/// From our own address: the other side takes calls from no other.
void Link::call(Clock::time_point now) {
  next_call_ = now + kRetry;
  net::Fd fd(::socket(options_.peer.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return drop(std::strerror(errno));
  sockaddr_storage storage;
  Address own = options_.own;
  own.port = 0;
  socklen_t length = own.to_sockaddr(storage);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0)
    return drop(fmt::format("{}: {}: is it an address of this machine?", own.ip_text(),
                            std::strerror(errno)));
  length = options_.peer.to_sockaddr(storage);
  const int done = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length);
  if (done != 0 && errno != EINPROGRESS)
    return drop(fmt::format("connecting to {}: {}", options_.peer.text(), std::strerror(errno)));
  next_ = make(std::move(fd), now);
  next_->connecting = true;
}

void Link::accept(Clock::time_point now) {
  for (int turn = 0; turn < 16; ++turn) {
    net::Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) return;
    if (const Address from = net::peer_address(fd.get()); !same_ip(from, options_.peer)) {
      log_.limited(kLogStranger, LogLevel::warning, "pair: {} called, who is not the peer {}",
                   from.text(), options_.peer.ip_text());
      continue;
    }
    next_ = make(std::move(fd), now);  // the latest one counts
    next_->tls->start();
  }
}

void Link::add_to(std::vector<pollfd>& polled) const {
  if (listener_) polled.push_back({listener_.get(), POLLIN, 0});
  for (const auto* each : {&current_, &next_})
    if (*each)
      polled.push_back(
          {(*each)->fd.get(),
           static_cast<short>((*each)->connecting || !(*each)->out.empty() ? POLLIN | POLLOUT
                                                                           : POLLIN),
           0});
}

void Link::step(Clock::time_point now) {
  if (listener_) accept(now);
  if (options_.calls && !current_ && !next_ && now >= next_call_) call(now);
  if (next_ && !serve(*next_, now, false)) next_.reset();
  const bool newcomer = next_ && next_->tls->state() == tls::Engine::State::open;
  if (newcomer) adopt(now);
  if (current_ && ((newcomer && !receive(*current_)) || !serve(*current_, now, true))) {
    current_.reset();
    const std::lock_guard lock(mutex_);
    protocol_.disconnected();
  }
}

/// The newcomer has the key: it is the peer, and what there was before is dead.
void Link::adopt(Clock::time_point now) {
  current_ = std::move(next_);
  current_->heard = now;
  const std::lock_guard lock(mutex_);
  protocol_.connected();
}

void Link::drop(std::string why, bool newcomer) {
  if (newcomer && current_)
    return log_.limited(kLogStranger, LogLevel::warning, "pair: a call from {} came to nothing: {}",
                        options_.peer.ip_text(), why);
  if (why != trouble_ || trouble_.empty())
    log_.limited(kLogLink, LogLevel::warning, "pair: no link to {}: {}", options_.peer.text(), why);
  trouble_ = std::move(why);
}

bool Link::serve(Connection& connection, Clock::time_point now, bool current) {
  if (now - connection.heard > kSilence) {
    drop(connection.connecting ? "no answer to connecting" : "silence", !current);
    return false;
  }
  if (connection.connecting) {
    pollfd ready{connection.fd.get(), POLLOUT, 0};
    if (::poll(&ready, 1, 0) <= 0) return true;
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(connection.fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
      drop(fmt::format("connecting: {}", std::strerror(error)), !current);
      return false;
    }
    connection.connecting = false;
    connection.tls->start();
  }
  std::array<char, kPieceBytes> block;
  bool ended = false;
  for (int turn = 0; turn < 8 && !ended; ++turn) {
    const ssize_t got = ::recv(connection.fd.get(), block.data(), block.size(), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) break;
    if (got <= 0) {
      if (connection.tls->state() != tls::Engine::State::failed)
        drop(got == 0 ? "the peer closed the connection" : std::strerror(errno), !current);
      ended = true;
      break;
    }
    connection.heard = now;
    connection.tls->receive({block.data(), static_cast<std::size_t>(got)});
    if (current && !receive(connection)) return false;
  }
  if (connection.tls->state() == tls::Engine::State::failed) {
    drop(advice(connection.tls->error()), !current);
    static_cast<void>(flush(connection));  // the alert says more than a bare end
    return false;
  }
  if (connection.tls->state() == tls::Engine::State::closed) {
    drop("the peer closed the connection", !current);
    return false;
  }
  return !ended && flush(connection);
}

/// What came, to the protocol.
bool Link::receive(Connection& connection) {
  plain_.clear();
  connection.tls->take_plaintext(plain_);
  if (plain_.empty()) return true;
  Result<void> good;
  bool joined = false;
  {
    const std::lock_guard lock(mutex_);
    good = protocol_.receive(plain_);
    joined = protocol_.joined();
  }
  if (!good) {
    drop(good.error().text());
    return false;
  }
  if (joined && !trouble_.empty()) trouble_.clear();
  return true;
}

/// As much as the socket takes; the protocol's output waits in the protocol until then.
bool Link::flush(Connection& connection) {
  for (;;) {
    if (connection.out.empty() && &connection == current_.get() &&
        connection.tls->state() == tls::Engine::State::open) {
      const std::lock_guard lock(mutex_);
      std::string& output = protocol_.output();
      const std::size_t piece = std::min(output.size(), kPieceBytes);
      if (piece > 0) connection.tls->send(std::string_view(output).substr(0, piece));
      output.erase(0, piece);
    }
    connection.tls->take_ciphertext(connection.out);
    if (connection.out.empty()) return true;
    const ssize_t sent = ::send(connection.fd.get(), connection.out.data(), connection.out.size(),
                                MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (sent < 0) {
      drop(std::strerror(errno));
      return false;
    }
    connection.out.erase(0, static_cast<std::size_t>(sent));
    if (!connection.out.empty()) return true;
  }
}

}  // namespace poise::pair
