#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ipvs/difference.h"
#include "ipvs/table.h"

/// The kernel's language: generic netlink family "IPVS" (linux/ip_vs.h), to and from our values.
/// Pure. Attributes are what follows the generic netlink header; they must be aligned to 4 bytes.
namespace poise::ipvs {

using Bytes = std::vector<std::uint8_t>;

struct Request {
  std::uint8_t command = 0;  ///< IPVS_CMD_*
  Bytes attributes{};

  bool operator==(const Request&) const = default;
};

/// The connection sync daemon of one direction; a node of a pair may run both.
struct SyncDaemon {
  bool master = false;    ///< sends what it knows; else listens
  std::string interface;  ///< multicast goes out and comes in here; 1..15 characters
  std::uint32_t id = 0;   ///< 0..255, the same on both nodes of a pair

  auto operator<=>(const SyncDaemon&) const = default;
};

[[nodiscard]] Request request_for(const Change& change);
[[nodiscard]] Request request_services();                               ///< a dump
[[nodiscard]] Request request_service(const ServiceKey& service);       ///< one
[[nodiscard]] Request request_destinations(const ServiceKey& service);  ///< a dump
[[nodiscard]] Request request_timeouts();
[[nodiscard]] Request request_set_timeouts(const Timeouts& timeouts);
[[nodiscard]] Request request_daemons();  ///< a dump
[[nodiscard]] Request request_start(const SyncDaemon& daemon);
[[nodiscard]] Request request_stop(const SyncDaemon& daemon);

struct ServiceReply {
  ServiceKey key;
  ServiceSettings settings;
  Traffic traffic;
};

struct DestinationReply {
  Address address;
  Destination destination;
  Use use;
};

/// What the kernel answers; nothing when the bytes are not such an answer.
[[nodiscard]] std::optional<ServiceReply> decode_service(std::span<const std::uint8_t> attributes);
/// `service_family` is what a kernel that doesn't say a destination's family (before 3.18) means.
[[nodiscard]] std::optional<DestinationReply> decode_destination(
    std::span<const std::uint8_t> attributes, std::uint8_t service_family);
[[nodiscard]] std::optional<Timeouts> decode_timeouts(std::span<const std::uint8_t> attributes);
[[nodiscard]] std::optional<SyncDaemon> decode_daemon(std::span<const std::uint8_t> attributes);

/// One netlink message of a datagram.
struct Message {
  enum class Kind : std::uint8_t {
    data,   ///< of the family; `attributes` and `command`
    done,   ///< a dump is complete
    error,  ///< `error` says which; 0 is an acknowledgement
  };
  Kind kind = Kind::data;
  std::uint32_t sequence = 0;
  bool interrupted = false;  ///< the table changed while it was dumped
  int error = 0;             ///< errno
  std::uint8_t command = 0;
  std::span<const std::uint8_t> attributes{};
};

/// Calls `take` with each message of a datagram; false when it is not whole netlink messages.
bool for_each_message(std::span<const std::uint8_t> datagram,
                      const std::function<void(const Message&)>& take);

/// Appends `request` to a datagram. `family` is the number the kernel gave to "IPVS".
void append(Bytes& datagram, const Request& request, std::uint16_t family, std::uint16_t flags,
            std::uint32_t sequence);

}  // namespace poise::ipvs
