#include "loadgen/loop/socket.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "poise/number.h"

namespace poise::loadgen {

Result<Address> parse_address(std::string_view text) {
  const Result<std::vector<Address>> addresses = resolve(text);
  if (!addresses) return addresses.error();
  return addresses->front();
}

Result<std::vector<Address>> resolve(std::string_view text) {
  const auto wrong = [&](std::string_view what) {
    return Error{std::string(text), std::string(what)};
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return wrong("has no port; write ADDRESS:PORT");
  const auto port = poise::parse_number<std::uint16_t>(text.substr(colon + 1));
  if (!port) return wrong("the port is not 0..65535");
  std::string_view host = text.substr(0, colon);
  if (host.empty()) host = "127.0.0.1";
  if (host.find(':') != std::string_view::npos) {
    if (!host.starts_with('[') || !host.ends_with(']'))
      return wrong("write an IPv6 address as [ADDRESS]:PORT");
    host = host.substr(1, host.size() - 2);
  }
  if (const auto literal = Address::from_ip(host, *port)) return std::vector<Address>{*literal};
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(std::string(host).c_str(), nullptr, &hints, &found);
  if (error != 0) return wrong(fmt::format("cannot resolve {}: {}", host, gai_strerror(error)));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, &freeaddrinfo);
  std::vector<Address> addresses;
  for (const addrinfo* one = found; one; one = one->ai_next) {
    sockaddr_storage storage{};
    std::memcpy(&storage, one->ai_addr, one->ai_addrlen);
    addresses.push_back(Address::from_sockaddr(storage));
    addresses.back().port = *port;
  }
  return addresses;
}

Result<net::Fd> open_server(const Address& address, bool bind_only) {
  const auto failed = [&](const char* call) {
    std::string what = fmt::format("{}: {}", call, std::strerror(errno));
    if (errno == EACCES) what += "; ports below 1024 need root or CAP_NET_BIND_SERVICE";
    if (errno == EADDRINUSE) what += "; another server listens there";
    return Error{"listen on " + address.text(), std::move(what)};
  };
  net::Fd fd(socket(address.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return failed("socket");
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // inherited by accepted sockets
  if (address.is_v6()) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  sockaddr_storage storage;
  const socklen_t size = address.to_sockaddr(storage);
  const auto* name = reinterpret_cast<const sockaddr*>(&storage);
  // SO_REUSEADDR lets two sockets share a port while neither listens, so one that only holds it
  // goes without, unless connections of an earlier server that linger in TIME_WAIT forbid that.
  if (bind_only && bind(fd.get(), name, size) == 0) return fd;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd.get(), name, size) != 0) return failed("bind");
  if (!bind_only && listen(fd.get(), 4096) != 0) return failed("listen");
  return fd;
}

int begin_connect(const Address& target, const std::optional<Address>& source, net::Fd& fd) {
  fd = net::Fd(socket(target.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return -errno;
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_storage storage;
  if (source) {
    // The port is chosen at connect(), by the whole 4-tuple: many more connections fit than by
    // bind() alone.
    setsockopt(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    const socklen_t size = source->to_sockaddr(storage);
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), size) != 0) return -errno;
  }
  const socklen_t size = target.to_sockaddr(storage);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), size) != 0 &&
      errno != EINPROGRESS)
    return -errno;
  return 0;
}

void reset_on_close(int fd) {
  const linger now{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

std::uint64_t raise_fd_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
  }
  return limit.rlim_cur;
}

}  // namespace poise::loadgen
