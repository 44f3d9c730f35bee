#pragma once

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace poise {

/// An IPv4 or IPv6 address with a TCP port: 20 bytes, a plain value that sessions, records and
/// configs carry. IPv4 occupies the first four bytes of `ip`, the rest is zero, so that comparing
/// bytes compares addresses.
struct Address {
  std::array<std::uint8_t, 16> ip{};  ///< network order
  std::uint16_t port = 0;             ///< host order
  std::uint8_t family = 0;            ///< AF_INET, AF_INET6, or 0: no address

  auto operator<=>(const Address&) const = default;

  [[nodiscard]] bool is_v4() const { return family == AF_INET; }
  [[nodiscard]] bool is_v6() const { return family == AF_INET6; }
  explicit operator bool() const { return family != 0; }

  /// 0.0.0.0 or ::
  [[nodiscard]] bool is_any() const { return ip == std::array<std::uint8_t, 16>{}; }

  /// Bits that tell one address from another: 32 or 128.
  [[nodiscard]] unsigned bits() const { return is_v4() ? 32 : 128; }

  /// The address alone, as inet_ntop writes it; "-" when there is none.
  [[nodiscard]] std::string ip_text() const {
    char text[INET6_ADDRSTRLEN] = "-";
    if (family != 0) inet_ntop(family, ip.data(), text, sizeof text);
    return text;
  }

  /// "192.0.2.7:25", "[2001:db8::7]:25", or "-".
  [[nodiscard]] std::string text() const {
    if (family == 0) return "-";
    return is_v6() ? fmt::format("[{}]:{}", ip_text(), port)
                   : fmt::format("{}:{}", ip_text(), port);
  }

  /// A literal without a port. Scoped IPv6 addresses (fe80::1%eth0) are not accepted.
  static std::optional<Address> from_ip(std::string_view text, std::uint16_t port = 0) {
    char copy[INET6_ADDRSTRLEN + 1] = {};
    if (text.empty() || text.size() > INET6_ADDRSTRLEN) return std::nullopt;
    std::memcpy(copy, text.data(), text.size());
    Address address;
    address.port = port;
    for (const int family : {AF_INET, AF_INET6}) {
      if (inet_pton(family, copy, address.ip.data()) == 1) {
        address.family = static_cast<std::uint8_t>(family);
        return address;
      }
    }
    return std::nullopt;
  }

  /// Fills `storage`; returns the length to hand to bind() or connect().
  socklen_t to_sockaddr(sockaddr_storage& storage) const {
    std::memset(&storage, 0, sizeof storage);
    if (is_v4()) {
      sockaddr_in v4{};
      v4.sin_family = AF_INET;
      v4.sin_port = htons(port);
      std::memcpy(&v4.sin_addr, ip.data(), 4);
      std::memcpy(&storage, &v4, sizeof v4);
      return sizeof v4;
    }
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&v6.sin6_addr, ip.data(), 16);
    std::memcpy(&storage, &v6, sizeof v6);
    return sizeof v6;
  }

  /// IPv4-mapped IPv6 (::ffff:192.0.2.7) comes back as IPv4: lists and logs speak of one client.
  static Address from_sockaddr(const sockaddr_storage& storage) {
    Address address;
    if (storage.ss_family == AF_INET) {
      sockaddr_in v4;
      std::memcpy(&v4, &storage, sizeof v4);
      std::memcpy(address.ip.data(), &v4.sin_addr, 4);
      address.port = ntohs(v4.sin_port);
      address.family = AF_INET;
    } else if (storage.ss_family == AF_INET6) {
      sockaddr_in6 v6;
      std::memcpy(&v6, &storage, sizeof v6);
      address.port = ntohs(v6.sin6_port);
      if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
        std::memcpy(address.ip.data(), &v6.sin6_addr.s6_addr[12], 4);
        address.family = AF_INET;
      } else {
        std::memcpy(address.ip.data(), &v6.sin6_addr, 16);
        address.family = AF_INET6;
      }
    }
    return address;
  }
};
static_assert(sizeof(Address) == 20);

/// A network such as 192.0.2.0/24 or 2001:db8::/32. Bits beyond the prefix are zero.
struct Network {
  Address base;  ///< port 0
  std::uint8_t prefix = 0;

  auto operator<=>(const Network&) const = default;

  [[nodiscard]] bool contains(const Address& address) const {
    if (address.family != base.family) return false;
    const unsigned whole = prefix / 8u;
    if (std::memcmp(address.ip.data(), base.ip.data(), whole) != 0) return false;
    const unsigned rest = prefix % 8u;
    if (rest == 0) return true;
    const auto mask = static_cast<std::uint8_t>(0xff00u >> rest);
    return (address.ip[whole] & mask) == (base.ip[whole] & mask);
  }

  [[nodiscard]] std::string text() const { return fmt::format("{}/{}", base.ip_text(), prefix); }
};

/// `address` cut to its first `prefix` bits, port 0: what one source is, for stickiness, limits and
/// hashes.
inline Address masked(const Address& address, unsigned prefix) {
  Address cut = address;
  cut.port = 0;
  for (unsigned byte = 0; byte < cut.ip.size(); ++byte) {
    const unsigned first_bit = byte * 8;
    if (first_bit >= prefix)
      cut.ip[byte] = 0;
    else if (prefix - first_bit < 8)
      cut.ip[byte] = static_cast<std::uint8_t>(cut.ip[byte] & (0xff00u >> (prefix - first_bit)));
  }
  return cut;
}

}  // namespace poise
