#include "net/socket.h"

#include <fmt/format.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace poise::net {
namespace {

template <class T>
bool set_option(int fd, int level, int name, const T& value) {
  return ::setsockopt(fd, level, name, &value, sizeof value) == 0;
}

int seconds_of(std::chrono::milliseconds time) {
  return static_cast<int>(
      std::max<std::int64_t>(1, std::chrono::ceil<std::chrono::seconds>(time).count()));
}

std::string bind_hint(int error, const Address& address) {
  switch (error) {
    case EADDRINUSE:
      return fmt::format("another program listens on port {} (ss -ltnp 'sport = :{}' shows which)",
                         address.port, address.port);
    case EACCES:
      return fmt::format("port {} needs CAP_NET_BIND_SERVICE: start as root or give the capability",
                         address.port);
    case EAFNOSUPPORT:
      return "this kernel has no IPv6 (ipv6.disable=1?): remove the IPv6 address from \"listen\"";
    default:
      return {};
  }
}

/// 0, or the errno of binding without SO_REUSEPORT. A predecessor's ring holds its listener for
/// some milliseconds after the process has gone, so a busy address is tried again for a moment.
int bind_alone(const Address& address) {
  sockaddr_storage storage;
  const socklen_t length = address.to_sockaddr(storage);
  for (int tries = 0;; ++tries) {
    const Fd fd(::socket(address.family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
    if (!fd) return errno;
    set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (address.is_v6()) {
      set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1);
      set_option(fd.get(), IPPROTO_IPV6, IPV6_FREEBIND, 1);
    } else {
      set_option(fd.get(), IPPROTO_IP, IP_FREEBIND, 1);
    }
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) == 0) return 0;
    if (errno != EADDRINUSE || tries == 25) return errno;
    ::usleep(20'000);
  }
}

}  // namespace

void set_keepalive(int fd, std::chrono::milliseconds idle, std::chrono::milliseconds user_timeout) {
  if (idle.count() > 0) {
    // A vanished peer is given up after idle + 3 unanswered probes, a quarter of the idle time
    // apart.
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, seconds_of(idle));
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, seconds_of(idle / 4));
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
  }
  if (user_timeout.count() > 0)
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<unsigned>(user_timeout.count()));
}

Result<Fd> open_listener(const Address& address, const ListenerOptions& options) {
  const std::string where = "listener " + address.text();
  const auto failed = [&](const char* call, int error, const std::string& hint = {}) {
    return Error{where, fmt::format("{}: {}{}{}", call, std::strerror(error),
                                    hint.empty() ? "" : "; ", hint)};
  };
  Fd fd(::socket(address.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd) return failed("socket", errno, bind_hint(errno, address));
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (!set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1)) return failed("SO_REUSEPORT", errno);
  if (address.is_v6() && !set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1))
    return failed("IPV6_V6ONLY", errno);
  if (address.is_v6())
    set_option(fd.get(), IPPROTO_IPV6, IPV6_FREEBIND, 1);
  else
    set_option(fd.get(), IPPROTO_IP, IP_FREEBIND, 1);
  set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  set_keepalive(fd.get(), options.keepalive, options.user_timeout);
  if (options.congestion != "system" &&
      ::setsockopt(fd.get(), IPPROTO_TCP, TCP_CONGESTION, options.congestion.data(),
                   static_cast<socklen_t>(options.congestion.size())) != 0)
    return failed("TCP_CONGESTION", errno);
  sockaddr_storage storage;
  const socklen_t length = address.to_sockaddr(storage);
  if (options.expect_unused && address.port != 0)
    if (const int error = bind_alone(address); error != 0)
      return failed("bind", error, bind_hint(error, address));
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0)
    return failed("bind", errno, bind_hint(errno, address));
  if (::listen(fd.get(), options.backlog) != 0)
    return failed("listen", errno, bind_hint(errno, address));
  return fd;
}

void set_listener_options(int fd, const ListenerOptions& options) {
  if (options.keepalive.count() == 0) set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 0);
  if (options.user_timeout.count() == 0) set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 0u);
  set_keepalive(fd, options.keepalive, options.user_timeout);
  // "system" can't be asked for by name: it is what a new socket has.
  std::string congestion = options.congestion;
  if (congestion == "system") {
    const Fd fresh(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
    char name[16] = {};
    socklen_t length = sizeof name;
    if (!fresh || ::getsockopt(fresh.get(), IPPROTO_TCP, TCP_CONGESTION, name, &length) != 0)
      return;
    congestion.assign(name, ::strnlen(name, sizeof name));
  }
  ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion.data(),
               static_cast<socklen_t>(congestion.size()));
}

Result<void> check_congestion(const std::string& name) {
  if (name == "system") return {};
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd) return Error{"congestion", fmt::format("socket: {}", std::strerror(errno))};
  if (::setsockopt(fd.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(),
                   static_cast<socklen_t>(name.size())) == 0)
    return {};
  return Error{
      "congestion",
      fmt::format("\"{}\": {}; the kernel offers what sysctl "
                  "net.ipv4.tcp_available_congestion_control lists (modprobe tcp_{} adds one)",
                  name, std::strerror(errno), name)};
}

Address local_address(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {};
  return Address::from_sockaddr(storage);
}

Address peer_address(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {};
  return Address::from_sockaddr(storage);
}

}  // namespace poise::net
