// PROXY headers: exact bytes out, every kind in, whatever the pieces, and what is refused and why.
#include "mail/proxy_header.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace poise::mail {
namespace {

using enum ProxyHeaderStatus;

const std::string kSignature("\r\n\r\n\0\r\nQUIT\n", 12);

Address at(std::string_view ip, std::uint16_t port) {
  return *Address::from_ip(ip, port);
}

std::string v1(const Address& source, const Address& destination) {
  std::array<char, kProxyBuiltBytesMax> out;
  return {out.data(), build_proxy_v1(out, source, destination)};
}

std::string v2(const Address& source, const Address& destination, std::string_view id = {}) {
  std::array<char, kProxyBuiltBytesMax> out;
  return {out.data(), build_proxy_v2(out, source, destination, id)};
}

std::string local() {
  std::array<char, kProxyBuiltBytesMax> out;
  return {out.data(), build_proxy_v2_local(out)};
}

/// Version 2 by hand: what a stranger may send.
std::string raw(unsigned version_command, unsigned family_transport, const std::string& block) {
  std::string header = kSignature;
  header += static_cast<char>(version_command);
  header += static_cast<char>(family_transport);
  header += static_cast<char>(block.size() >> 8);
  header += static_cast<char>(block.size() & 0xff);
  return header + block;
}

std::string tlv(unsigned type, const std::string& value) {
  std::string bytes(1, static_cast<char>(type));
  bytes += static_cast<char>(value.size() >> 8);
  bytes += static_cast<char>(value.size() & 0xff);
  return bytes + value;
}

const std::string kInetBlock("\xc0\x00\x02\x07\xc6\x33\x64\x01\xd4\x31\x00\x19", 12);

TEST(BuildProxyHeader, v1_is_one_line) {
  EXPECT_EQ(v1(at("192.0.2.7", 54321), at("198.51.100.1", 25)),
            "PROXY TCP4 192.0.2.7 198.51.100.1 54321 25\r\n");
  EXPECT_EQ(v1(at("2001:db8::7", 1), at("2001:db8:1::25", 65535)),
            "PROXY TCP6 2001:db8::7 2001:db8:1::25 1 65535\r\n");
}

TEST(BuildProxyHeader, v1_of_the_longest_addresses_keeps_the_limit) {
  const Address longest = at("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
  const std::string header = v1(longest, longest);
  EXPECT_LE(header.size(), kProxyV1BytesMax);
  EXPECT_EQ(parse_proxy_header(header).source, longest);
}

TEST(BuildProxyHeader, v2_is_these_bytes) {
  EXPECT_EQ(v2(at("192.0.2.7", 54321), at("198.51.100.1", 25)), raw(0x21, 0x11, kInetBlock));
  EXPECT_EQ(v2(at("192.0.2.7", 54321), at("198.51.100.1", 25), "4a7-1"),
            raw(0x21, 0x11, kInetBlock + tlv(5, "4a7-1")));
  const std::string six("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07", 16);
  EXPECT_EQ(v2(at("2001:db8::7", 0x0102), at("2001:db8::7", 25)),
            raw(0x21, 0x21, six + six + std::string("\x01\x02\x00\x19", 4)));
  EXPECT_EQ(local(), raw(0x20, 0x00, ""));
}

TEST(BuildProxyHeader, the_clients_family_is_the_headers) {
  EXPECT_EQ(v1(at("2001:db8::7", 9), at("192.0.2.25", 25)),
            "PROXY TCP6 2001:db8::7 ::ffff:192.0.2.25 9 25\r\n");
  EXPECT_EQ(v1(at("192.0.2.7", 9), at("2001:db8::25", 25)),
            "PROXY TCP4 192.0.2.7 0.0.0.0 9 25\r\n");
  const ProxyHeader six = parse_proxy_header(v2(at("2001:db8::7", 9), at("192.0.2.25", 25)));
  EXPECT_EQ(six.source, at("2001:db8::7", 9));
  EXPECT_EQ(six.destination, at("192.0.2.25", 25));
  const ProxyHeader four = parse_proxy_header(v2(at("192.0.2.7", 9), at("2001:db8::25", 25)));
  EXPECT_EQ(four.source, at("192.0.2.7", 9));
  EXPECT_EQ(four.destination, at("0.0.0.0", 25));
}

TEST(BuildProxyHeader, unique_id_is_cut_to_its_limit) {
  const std::string header = v2(at("::1", 1), at("::1", 2), std::string(500, 'x'));
  EXPECT_EQ(header.size(), kProxyBuiltBytesMax);
  EXPECT_EQ(parse_proxy_header(header).unique_id, std::string(kProxyUniqueIdBytesMax, 'x'));
}

TEST(ParseProxyHeader, complete_ones_in_any_pieces) {
  struct Case {
    std::string bytes;
    unsigned version;
    bool local;
    Address source;
    Address destination;
    std::string unique_id;
  };
  const Address client = at("192.0.2.7", 54321), vip = at("198.51.100.1", 25);
  const Address client6 = at("2001:db8::7", 1), vip6 = at("2001:db8::25", 2);
  const std::string any216(216, '/');
  const Case cases[] = {
      {v1(client, vip), 1, false, client, vip, ""},
      {v1(client6, vip6), 1, false, client6, vip6, ""},
      {"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", 1, false, at("0.0.0.0", 0),
       at("255.255.255.255", 65535), ""},
      {"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 54321 25\r\n", 1, false, client, vip, ""},
      {"PROXY UNKNOWN\r\n", 1, false, {}, {}, ""},
      {"PROXY UNKNOWN ffff::1 and then whatever 1 2\r\n", 1, false, {}, {}, ""},
      {"PROXY UNKNOWN " + std::string(91, 'x') + "\r\n", 1, false, {}, {}, ""},
      {v2(client, vip), 2, false, client, vip, ""},
      {v2(client6, vip6, "id"), 2, false, client6, vip6, "id"},
      {local(), 2, true, {}, {}, ""},
      {raw(0x20, 0x11, kInetBlock), 2, true, {}, {}, ""},
      {raw(0x20, 0xff, "not even a TLV"), 2, true, {}, {}, ""},
      {raw(0x21, 0x00, ""), 2, false, {}, {}, ""},
      {raw(0x21, 0x00, "whatever"), 2, false, {}, {}, ""},
      {raw(0x21, 0x31, any216), 2, false, {}, {}, ""},
      {raw(0x21, 0x31, any216 + tlv(5, "unix")), 2, false, {}, {}, "unix"},
      {raw(0x21, 0x12, kInetBlock), 2, false, {}, {}, ""},
      {raw(0x21, 0x11, kInetBlock + tlv(4, "") + tlv(5, "a-1") + tlv(0xee, "x")), 2, false, client,
       vip, "a-1"},
      {raw(0x21, 0x11, kInetBlock + tlv(0x20, std::string(1900, 't'))), 2, false, client, vip, ""},
  };
  for (const Case& c : cases) {
    const std::string stream = c.bytes + "EHLO client\r\n";
    for (std::size_t have = 0; have < c.bytes.size(); ++have) {
      ASSERT_EQ(parse_proxy_header(stream.substr(0, have)).status, need_more)
          << have << " bytes of " << testing::PrintToString(c.bytes);
    }
    for (const std::string& received : {c.bytes, stream}) {
      const ProxyHeader header = parse_proxy_header(received);
      ASSERT_EQ(header.status, complete) << header.reason << testing::PrintToString(c.bytes);
      EXPECT_EQ(header.length, c.bytes.size());
      EXPECT_EQ(header.version, c.version);
      EXPECT_EQ(header.local, c.local);
      EXPECT_EQ(header.source, c.source) << header.source.text();
      EXPECT_EQ(header.destination, c.destination) << header.destination.text();
      EXPECT_EQ(header.unique_id, c.unique_id);
    }
  }
}

TEST(ParseProxyHeader, absent_is_known_by_the_first_byte_that_differs) {
  struct Case {
    std::string bytes;
    std::size_t decided_at;  ///< bytes that have to be there
  };
  const Case cases[] = {
      {"EHLO client\r\n", 1},  {"PREAUTH", 3},         {"PROXYING", 6},
      {"proxy TCP4", 1},       {"\r\nx", 3},           {std::string("\r\n\r\n\0\r\nQUIX", 11), 11},
      {"\x16\x03\x01\x02", 1}, {std::string(1, 0), 1}, {"\r\n\r\nQUIT", 5},
  };
  for (const Case& c : cases) {
    for (std::size_t have = 0; have <= c.bytes.size(); ++have) {
      EXPECT_EQ(parse_proxy_header(c.bytes.substr(0, have)).status,
                have < c.decided_at ? need_more : absent)
          << have << " bytes of " << testing::PrintToString(c.bytes);
    }
  }
}

TEST(ParseProxyHeader, malformed_ones_and_why) {
  struct Case {
    std::string bytes;
    std::string_view reason;
  };
  const std::string v1_long = "PROXY UNKNOWN " + std::string(92, 'x') + "\r\n";
  const Case cases[] = {
      {"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n", "CR"},
      {"PROXY TCP4 192.0.2.7\r198.51.100.1 1 2\r\n", "CRLF"},
      {v1_long, "107"},
      {"PROXY \r\n", "protocol"},
      {"PROXY tcp4 192.0.2.7 198.51.100.1 1 2\r\n", "protocol"},
      {"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n", "protocol"},
      {"PROXY  TCP4 192.0.2.7 198.51.100.1 1 2\r\n", "protocol"},
      {"PROXY TCP4\r\n", "source"},
      {"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n", "destination"},
      {"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n", "destination"},
      {"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n", "destination"},
      {"PROXY TCP4 192.0.2.7 198.51.100.1  1 2\r\n", "source"},
      {"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n", "source"},
      {"PROXY TCP4 192.0.2 198.51.100.1 1 2\r\n", "source"},
      {"PROXY TCP4 2001:db8::7 2001:db8::8 1 2\r\n", "source"},
      {"PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n", "source"},
      {"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "source"},
      {"PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n", "source"},
      {"PROXY TCP4 192.0.2.7 198.51.100.1 -1 2\r\n", "source"},
      {"PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n", "source"},
      {"PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n", "source"},
      {"PROXY TCP4 192.0.2.7 198.51.100.1 1 2x\r\n", "destination"},
      {raw(0x11, 0x11, kInetBlock), "version"},
      {raw(0x31, 0x11, kInetBlock), "version"},
      {raw(0x22, 0x11, kInetBlock), "command"},
      {raw(0x21, 0x41, kInetBlock), "family"},
      {raw(0x21, 0x13, kInetBlock), "family"},
      {raw(0x21, 0x11, kInetBlock.substr(1)), "too short"},
      {raw(0x21, 0x21, std::string(35, 'x')), "too short"},
      {raw(0x21, 0x31, std::string(215, 'x')), "too short"},
      {raw(0x21, 0x11, kInetBlock + "x"), "TLV"},
      {raw(0x21, 0x11, kInetBlock + tlv(5, "ab").substr(0, 4)), "TLV"},
      {raw(0x21, 0x11, kInetBlock + tlv(5, std::string(129, 'x'))), "TLV"},
      {raw(0x21, 0x11, kInetBlock + std::string(2021, 'x')), "2048"},
      {raw(0x20, 0x00, std::string(2033, 'x')), "2048"},
  };
  for (const Case& c : cases) {
    bool decided = false;
    for (std::size_t have = 0; have <= c.bytes.size(); ++have) {
      const ProxyHeader header = parse_proxy_header(c.bytes.substr(0, have));
      if (!decided) decided = header.status != need_more;
      ASSERT_EQ(header.status, decided ? malformed : need_more)
          << have << " bytes of " << testing::PrintToString(c.bytes);
      if (!decided) continue;
      EXPECT_NE(std::string(header.reason).find(c.reason), std::string::npos)
          << header.reason << ": " << testing::PrintToString(c.bytes);
    }
    EXPECT_TRUE(decided) << testing::PrintToString(c.bytes);
  }
}

/// Nobody makes us wait for more than the limit: an endless header is malformed by its length
/// field, or by its 107th byte.
TEST(ParseProxyHeader, never_asks_for_more_than_the_limit) {
  EXPECT_EQ(parse_proxy_header("PROXY " + std::string(100, 'x')).status, need_more);
  EXPECT_EQ(parse_proxy_header("PROXY " + std::string(101, 'x')).status, malformed);
  EXPECT_EQ(parse_proxy_header("PROXY UNKNOWN " + std::string(92, 'x') + "\r").status, malformed);
  EXPECT_EQ(parse_proxy_header(raw(0x20, 0, "").substr(0, 14) + "\xff\xff").status, malformed);
}

}  // namespace
}  // namespace poise::mail
