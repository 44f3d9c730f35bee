#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/fd.h"
#include "poise/address.h"
#include "poise/result.h"

/// The few socket calls that the two loops need. Unlike the balancer's listeners these are no
/// reuseport group: a forgotten server on the same port would silently take half of the
/// connections.
namespace poise::loadgen {

/// "127.0.0.1:2501", "[::1]:2501", "localhost:25", ":2501" (127.0.0.1). A name is resolved now, its
/// first address taken.
Result<Address> parse_address(std::string_view text);
/// The same with all addresses of a name, in the resolver's order; never empty.
Result<std::vector<Address>> resolve(std::string_view text);

/// Bound with SO_REUSEADDR and, unless `bind_only` (connections to it are then refused), listening.
/// Non-blocking.
Result<net::Fd> open_server(const Address& address, bool bind_only);

/// Begins to connect, from `source` if given. On success the connection may be in progress still. A
/// negative errno otherwise: EADDRNOTAVAIL and EMFILE are our own limits, the rest the peer's
/// doing.
int begin_connect(const Address& target, const std::optional<Address>& source, net::Fd& fd);

/// Makes the next close() of this socket a reset.
void reset_on_close(int fd);

/// Raises the limit of open files to the hard limit; returns it.
std::uint64_t raise_fd_limit();

}  // namespace poise::loadgen
