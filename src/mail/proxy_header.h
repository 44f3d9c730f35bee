#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "poise/address.h"

/// The PROXY protocol, versions 1 and 2 (haproxy.org, doc/proxy-protocol.txt): what goes before the
/// first byte of a connection so that a server sees the client's address and not the balancer's.
/// Pure: no allocation, no I/O; the traffic, the probes and the listeners use the same code.
namespace poise::mail {

inline constexpr std::size_t kProxyV1BytesMax = 107;  ///< section 2.1, CRLF included

/// A longer version 2 header is malformed. The protocol allows 64 KiB; addresses of AF_UNIX take
/// 232, TLS and authority TLVs of real proxies some hundred more.
inline constexpr std::size_t kProxyV2BytesMax = 2048;

inline constexpr std::size_t kProxyUniqueIdBytesMax = 128;  ///< section 2.2.5
inline constexpr std::size_t kProxyBuiltBytesMax = 16 + 36 + 3 + kProxyUniqueIdBytesMax;

/// Each build function writes one header to the front of `out`, which has room for
/// kProxyBuiltBytesMax, and returns its length.
///
/// A header has one family, and it is the client's: `source`'s. If `destination` (the service's own
/// address) has the other one, an IPv4 address is given to an IPv6 client as ::ffff:a.b.c.d, and an
/// IPv6 address to an IPv4 client as 0.0.0.0, with its port: what servers judge is the client, and
/// they shall see it as it is (Postfix 3.7 and Dovecot 2.3 take both and log the client). The
/// family of our connection to the server plays no part: an IPv6 client is announced as such to a
/// server reached by IPv4. A server that has IPv6 switched off (Postfix with inet_protocols = ipv4)
/// refuses such a header and closes.
std::size_t build_proxy_v1(std::span<char> out, const Address& source, const Address& destination);

/// `unique_id` goes along as PP2_TYPE_UNIQUE_ID, cut to kProxyUniqueIdBytesMax; empty: left out.
std::size_t build_proxy_v2(std::span<char> out, const Address& source, const Address& destination,
                           std::string_view unique_id);

/// Command LOCAL: a connection of our own, as a probe's.
std::size_t build_proxy_v2_local(std::span<char> out);

enum class ProxyHeaderStatus : std::uint8_t {
  need_more,  ///< what is there so far is the beginning of a header
  absent,     ///< no header: the first byte that differs tells
  malformed,  ///< begins like a header and is none; `reason` says why
  complete,
};

struct ProxyHeader {
  ProxyHeaderStatus status = ProxyHeaderStatus::need_more;
  const char* reason = "";  ///< of malformed: a few words for the log
  std::size_t length = 0;   ///< of complete: the bytes it takes; the client's own follow
  unsigned version = 0;

  /// LOCAL: the proxy speaks for itself, its own address counts. Only in version 2.
  bool local = false;

  /// None (family 0) with LOCAL, UNKNOWN, AF_UNSPEC, AF_UNIX and datagrams: then the addresses of
  /// the connection itself count. IPv4 mapped into IPv6 comes back as IPv4. If one is there, both
  /// are.
  Address source;
  Address destination;

  std::string_view unique_id;  ///< a part of `received`; any bytes
};

/// Judges all that was received so far, from the first byte on. Once the status is not need_more,
/// more bytes never change the answer; and need_more never lasts beyond kProxyV2BytesMax bytes.
/// Not looked at: the checksum TLV (TCP has its own), TLVs other than the unique id beyond their
/// lengths, and anything in a LOCAL or AF_UNSPEC header beyond its length.
[[nodiscard]] ProxyHeader parse_proxy_header(std::string_view received);

}  // namespace poise::mail
