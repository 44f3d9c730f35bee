#pragma once

#include <netinet/in.h>

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "poise/address.h"

/// The kernel's ip_vs table: as it should be, as it is, the difference, and the way there. The
/// words are the kernel's (Documentation/networking/ipvs-sysctl.rst, include/uapi/linux/ip_vs.h).
/// Nothing here knows pools, health or configuration. One thread uses it.
namespace poise::ipvs {

/// What tells one service from another: address, port and protocol, or a firewall mark.
struct ServiceKey {
  Address address;                      ///< with a mark only the family counts, the rest is zero
  std::uint32_t fwmark = 0;             ///< 0: by address
  std::uint8_t protocol = IPPROTO_TCP;  ///< 0 with a mark

  auto operator<=>(const ServiceKey&) const = default;

  /// "192.0.2.1:25", "192.0.2.1:53/udp", "mark 7", "mark 7 (IPv6)"
  [[nodiscard]] std::string text() const;

  static ServiceKey of(const Address& address) { return {.address = address}; }
  static ServiceKey marked(std::uint32_t mark, std::uint8_t family);
};

/// Connections from one network go to one server.
struct Persistence {
  std::uint32_t timeout_s = 0;  ///< since its last connection ended
  std::uint8_t prefix = 32;     ///< of the client's address: 1..32, IPv6 1..128

  bool operator==(const Persistence&) const = default;
};

/// Flags of schedulers; which mean what is the scheduler's own business.
inline constexpr std::uint32_t kFallback = 0x8;   ///< sh, mh: a server of weight 0 isn't hashed to
inline constexpr std::uint32_t kHashPort = 0x10;  ///< sh, mh: the client's port counts, too

struct ServiceSettings {
  std::string scheduler;  ///< the kernel's name: rr wrr lc wlc sh mh
  std::uint32_t flags = 0;
  std::optional<Persistence> persistence{};

  bool operator==(const ServiceSettings&) const = default;
};

enum class Method : std::uint8_t {
  nat,     ///< addresses are rewritten both ways; answers come back through us
  direct,  ///< to the server's MAC address; answers go straight to the client
  tunnel,  ///< wrapped in IP (ipip); answers go straight to the client
  other,   ///< something we never ask for; so it differs from whatever is wanted
};

inline constexpr std::string_view kMethodNames[] = {"nat", "direct", "tunnel", "other"};

constexpr std::string_view name_of(Method method) {
  return kMethodNames[static_cast<std::size_t>(method)];
}

struct Destination {
  Method method = Method::nat;
  std::uint32_t weight = 1;  ///< 0: no new connections, those there are go on
  std::uint32_t max = 0;     ///< no new connections from so many on; 0: no limit
  std::uint32_t resume = 0;  ///< and again below so many; 0: three quarters of `max`

  bool operator==(const Destination&) const = default;
};

struct Service {
  ServiceSettings settings;
  std::map<Address, Destination> destinations;

  bool operator==(const Service&) const = default;
};

using Table = std::map<ServiceKey, Service>;

/// Since the service or destination was made, and now; from the director's side: with direct and
/// tunnel nothing is seen of the answers.
struct Traffic {
  std::uint64_t connections = 0;
  std::uint64_t packets_in = 0, packets_out = 0;  ///< in: from clients
  std::uint64_t bytes_in = 0, bytes_out = 0;
  std::uint64_t connections_per_s = 0, packets_in_per_s = 0, packets_out_per_s = 0;
  std::uint64_t bytes_in_per_s = 0, bytes_out_per_s = 0;  ///< the kernel's own estimate

  bool operator==(const Traffic&) const = default;
};

struct Use {
  std::uint32_t active = 0;      ///< established connections
  std::uint32_t inactive = 0;    ///< beginning, or over and still remembered
  std::uint32_t persistent = 0;  ///< clients' networks that are bound to it
  Traffic traffic;

  bool operator==(const Use&) const = default;
};

/// The table as it was read, with what each part of it has carried.
struct Reading {
  Table table;
  std::map<ServiceKey, Traffic> traffic;
  std::map<ServiceKey, std::map<Address, Use>> use;
};

/// The kernel's timeouts of connections, one set for a network namespace. 0: as it is.
struct Timeouts {
  std::uint32_t tcp_s = 0;
  std::uint32_t tcp_fin_s = 0;  ///< one side has finished

  bool operator==(const Timeouts&) const = default;
};

}  // namespace poise::ipvs
