#pragma once

#include <chrono>
#include <string>

#include "net/fd.h"
#include "poise/address.h"
#include "poise/result.h"

/// Sockets and their options. Control makes listeners; workers make backend sockets.
namespace poise::net {

struct ListenerOptions {
  std::chrono::milliseconds
      keepalive{};  ///< TCP_KEEPIDLE; 0: keepalive off. Inherited by accepted sockets.
  std::chrono::milliseconds user_timeout{};  ///< TCP_USER_TIMEOUT; 0: the system's. Inherited.
  std::string congestion = "system";         ///< TCP_CONGESTION; "system": leave it. Inherited.
  int backlog = 4096;                        ///< cut by net.core.somaxconn
  /// Fail when anybody listens there already. Without it another program's listener that also has
  /// SO_REUSEPORT (Postfix sets it) would silently share our connections.
  bool expect_unused = true;
};

/// A listening, non-blocking socket of a reuseport group, bound even where the address is not on
/// this host yet (IP_FREEBIND: the passive node of a pair has no VIP). IPv6 listeners take IPv6
/// only. The error says what to do.
Result<Fd> open_listener(const Address& address, const ListenerOptions& options);

/// What of `options` can change while it listens; connections accepted later inherit it.
void set_listener_options(int fd, const ListenerOptions& options);

/// Tells at start, once, whether the kernel has this congestion control and lets this process use
/// it.
Result<void> check_congestion(const std::string& name);

/// Keepalive for a connection that has turned out to be long-lived. Errors are ignored: it is a
/// courtesy.
void set_keepalive(int fd, std::chrono::milliseconds idle, std::chrono::milliseconds user_timeout);

Address local_address(int fd);  ///< no address when the socket has none
Address peer_address(int fd);   ///< no address when the peer is gone already

}  // namespace poise::net
