#include "mail/proxy_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "poise/check.h"
#include "poise/number.h"

namespace poise::mail {
namespace {

constexpr std::string_view kV1Signature = "PROXY ";
constexpr std::string_view kV2Signature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::size_t kV2FixedBytes = 16;

constexpr unsigned kVersion2 = 0x20;
constexpr unsigned kCommandLocal = 0, kCommandProxy = 1;
constexpr unsigned kFamilyUnspec = 0, kFamilyInet = 1, kFamilyInet6 = 2, kFamilyUnix = 3;
constexpr unsigned kStream = 1, kDatagram = 2;
constexpr std::size_t kInetBytes = 12, kInet6Bytes = 36, kUnixBytes = 216;
constexpr unsigned kTypeUniqueId = 0x05;

constexpr std::array<std::uint8_t, 12> kMappedPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/// `destination` in the family of `source`.
Address in_family_of(const Address& source, const Address& destination) {
  if (destination.family == source.family) return destination;
  Address same;
  same.family = source.family;
  same.port = destination.port;
  if (source.is_v6() && destination.is_v4()) {
    std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), same.ip.begin());
    std::copy_n(destination.ip.begin(), 4, same.ip.begin() + kMappedPrefix.size());
  }
  return same;
}

char byte(unsigned value) {
  return static_cast<char>(static_cast<unsigned char>(value));
}

char* put_number(char* to, std::size_t value) {
  *to++ = byte(static_cast<unsigned>(value >> 8 & 0xff));
  *to++ = byte(static_cast<unsigned>(value & 0xff));
  return to;
}

char* put_ip(char* to, const Address& address, std::size_t bytes) {
  std::memcpy(to, address.ip.data(), bytes);
  return to + bytes;
}

unsigned byte_at(std::string_view bytes, std::size_t at) {
  return static_cast<unsigned char>(bytes[at]);
}

std::size_t number_at(std::string_view bytes, std::size_t at) {
  return byte_at(bytes, at) << 8 | byte_at(bytes, at + 1);
}

/// From 4 or 16 bytes in network order, by way of a sockaddr: it knows about mapped addresses.
Address to_address(int family, const char* ip, std::size_t port) {
  Address raw;
  raw.family = static_cast<std::uint8_t>(family);
  raw.port = static_cast<std::uint16_t>(port);
  std::memcpy(raw.ip.data(), ip, raw.bits() / 8);
  sockaddr_storage storage;
  raw.to_sockaddr(storage);
  return Address::from_sockaddr(storage);
}

ProxyHeader malformed(const char* reason) {
  ProxyHeader header;
  header.status = ProxyHeaderStatus::malformed;
  header.reason = reason;
  return header;
}

/// Cuts the word up to the next space off `line`.
std::string_view next_word(std::string_view& line) {
  const std::size_t space = std::min(line.find(' '), line.size());
  const std::string_view word = line.substr(0, space);
  line.remove_prefix(std::min(space + 1, line.size()));
  return word;
}

std::optional<Address> v1_address(int family, std::string_view ip, std::string_view port) {
  char text[INET6_ADDRSTRLEN] = {};
  if (ip.size() >= sizeof text) return std::nullopt;
  ip.copy(text, sizeof text);
  char bytes[16];
  if (inet_pton(family, text, bytes) != 1) return std::nullopt;
  const auto number = parse_number<std::uint16_t>(port);
  if (!number || (port.size() > 1 && port[0] == '0')) return std::nullopt;
  return to_address(family, bytes, *number);
}

/// Section 2.1: PROXY TCP4 source destination port port, or PROXY UNKNOWN and whatever.
ProxyHeader parse_v1(std::string_view received) {
  const std::string_view window = received.substr(0, kProxyV1BytesMax);
  const std::size_t end = window.find_first_of("\r\n");
  if (end == std::string_view::npos || end + 1 == window.size()) {
    if (end != std::string_view::npos && window[end] == '\n')
      return malformed("line ends without CR");
    if (window.size() == kProxyV1BytesMax) return malformed("line longer than 107 bytes");
    return {};
  }
  if (window[end] != '\r' || window[end + 1] != '\n') return malformed("line ends without CRLF");
  std::string_view line = window.substr(kV1Signature.size(), end - kV1Signature.size());

  ProxyHeader header;
  header.status = ProxyHeaderStatus::complete;
  header.length = end + 2;
  header.version = 1;
  const std::string_view protocol = next_word(line);
  if (protocol == "UNKNOWN") return header;
  if (protocol != "TCP4" && protocol != "TCP6")
    return malformed("protocol is none of TCP4, TCP6, UNKNOWN");
  const int family = protocol == "TCP4" ? AF_INET : AF_INET6;
  const std::string_view source = next_word(line), destination = next_word(line);
  const std::string_view source_port = next_word(line), destination_port = line;
  const auto from = v1_address(family, source, source_port);
  if (!from) return malformed("bad source address or port");
  const auto to = v1_address(family, destination, destination_port);
  if (!to) return malformed("bad destination address or port");
  header.source = *from;
  header.destination = *to;
  return header;
}

/// Section 2.2.1 and following: the TLVs after the addresses.
bool read_tlvs(std::string_view tlvs, ProxyHeader& header) {
  while (!tlvs.empty()) {
    if (tlvs.size() < 3) return false;
    const std::size_t bytes = number_at(tlvs, 1);
    if (tlvs.size() - 3 < bytes) return false;
    if (byte_at(tlvs, 0) == kTypeUniqueId) {
      if (bytes > kProxyUniqueIdBytesMax) return false;
      header.unique_id = tlvs.substr(3, bytes);
    }
    tlvs.remove_prefix(3 + bytes);
  }
  return true;
}

/// Section 2.2: signature, version and command, family and transport, length; addresses; TLVs.
ProxyHeader parse_v2(std::string_view received) {
  if (received.size() <= kV2Signature.size()) return {};
  const unsigned command = byte_at(received, 12) & 0x0f;
  if ((byte_at(received, 12) & 0xf0) != kVersion2) return malformed("version is not 2");
  if (command > kCommandProxy) return malformed("command is neither LOCAL nor PROXY");
  if (received.size() < kV2FixedBytes) return {};

  ProxyHeader header;
  header.version = 2;
  header.local = command == kCommandLocal;
  const unsigned family = byte_at(received, 13) >> 4, transport = byte_at(received, 13) & 0x0f;
  const std::size_t bytes = number_at(received, 14);
  if (kV2FixedBytes + bytes > kProxyV2BytesMax) return malformed("header longer than 2048 bytes");
  std::size_t address_bytes = 0;
  if (!header.local) {
    if (family > kFamilyUnix || transport > kDatagram)
      return malformed("unknown address family or transport");
    if (family == kFamilyInet) address_bytes = kInetBytes;
    if (family == kFamilyInet6) address_bytes = kInet6Bytes;
    if (family == kFamilyUnix) address_bytes = kUnixBytes;
    if (bytes < address_bytes) return malformed("too short for its addresses");
  }
  if (received.size() < kV2FixedBytes + bytes) return {};

  header.status = ProxyHeaderStatus::complete;
  header.length = kV2FixedBytes + bytes;
  if (header.local || family == kFamilyUnspec) return header;
  const std::string_view block = received.substr(kV2FixedBytes, bytes);
  if (!read_tlvs(block.substr(address_bytes), header)) return malformed("bad length of a TLV");
  if (transport == kStream && family == kFamilyInet) {
    header.source = to_address(AF_INET, block.data(), number_at(block, 8));
    header.destination = to_address(AF_INET, block.data() + 4, number_at(block, 10));
  } else if (transport == kStream && family == kFamilyInet6) {
    header.source = to_address(AF_INET6, block.data(), number_at(block, 32));
    header.destination = to_address(AF_INET6, block.data() + 16, number_at(block, 34));
  }
  return header;
}

bool agrees(std::string_view received, std::string_view signature) {
  const std::size_t common = std::min(received.size(), signature.size());
  return received.substr(0, common) == signature.substr(0, common);
}

}  // namespace

std::size_t build_proxy_v1(std::span<char> out, const Address& source, const Address& destination) {
  CHECK(out.size() >= kProxyBuiltBytesMax && source);
  const Address to = in_family_of(source, destination);
  char from_text[INET6_ADDRSTRLEN], to_text[INET6_ADDRSTRLEN];
  inet_ntop(source.family, source.ip.data(), from_text, sizeof from_text);
  inet_ntop(to.family, to.ip.data(), to_text, sizeof to_text);
  const auto written = fmt::format_to_n(out.data(), out.size(), "PROXY TCP{} {} {} {} {}\r\n",
                                        source.is_v4() ? 4 : 6, static_cast<char*>(from_text),
                                        static_cast<char*>(to_text), source.port, to.port);
  return written.size;
}

std::size_t build_proxy_v2(std::span<char> out, const Address& source, const Address& destination,
                           std::string_view unique_id) {
  CHECK(out.size() >= kProxyBuiltBytesMax && source);
  const Address to = in_family_of(source, destination);
  unique_id = unique_id.substr(0, kProxyUniqueIdBytesMax);
  const std::size_t ip_bytes = source.bits() / 8;
  const std::size_t tlv_bytes = unique_id.empty() ? 0 : 3 + unique_id.size();
  char* at = out.data();
  at += kV2Signature.copy(at, kV2Signature.size());
  *at++ = byte(kVersion2 | kCommandProxy);
  *at++ = byte((source.is_v4() ? kFamilyInet : kFamilyInet6) << 4 | kStream);
  at = put_number(at, 2 * ip_bytes + 4 + tlv_bytes);
  at = put_ip(at, source, ip_bytes);
  at = put_ip(at, to, ip_bytes);
  at = put_number(at, source.port);
  at = put_number(at, to.port);
  if (!unique_id.empty()) {
    *at++ = byte(kTypeUniqueId);
    at = put_number(at, unique_id.size());
    at += unique_id.copy(at, unique_id.size());
  }
  return static_cast<std::size_t>(at - out.data());
}

std::size_t build_proxy_v2_local(std::span<char> out) {
  CHECK(out.size() >= kProxyBuiltBytesMax);
  char* at = out.data();
  at += kV2Signature.copy(at, kV2Signature.size());
  *at++ = byte(kVersion2 | kCommandLocal);
  *at++ = byte(kFamilyUnspec);
  put_number(at, 0);
  return kV2FixedBytes;
}

ProxyHeader parse_proxy_header(std::string_view received) {
  if (received.empty()) return {};
  if (agrees(received, kV1Signature))
    return received.size() < kV1Signature.size() ? ProxyHeader{} : parse_v1(received);
  if (agrees(received, kV2Signature)) return parse_v2(received);
  ProxyHeader header;
  header.status = ProxyHeaderStatus::absent;
  return header;
}

}  // namespace poise::mail
