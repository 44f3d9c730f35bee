// What goes to the kernel, byte for byte, and what comes back: no kernel is needed for either.
#include "ipvs/messages.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/ip_vs.h>

#include <string>
#include <string_view>

namespace poise::ipvs {
namespace {

Address address(const char* ip, std::uint16_t port) {
  return Address::from_ip(ip, port).value();
}

std::string hex(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

/// Hex digits with blanks as the reader likes them.
std::string digits(std::string_view spaced) {
  std::string text;
  for (const char each : spaced)
    if (each != ' ' && each != '\n') text += each;
  return text;
}

Bytes bytes(std::string_view spaced) {
  const std::string text = digits(spaced);
  Bytes result;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    result.push_back(static_cast<std::uint8_t>(std::stoul(text.substr(i, 2), nullptr, 16)));
  return result;
}

using Kind = Change::Kind;

const ServiceKey kSmtp = ServiceKey::of(address("192.0.2.1", 25));
const ServiceKey kSmtp6 = ServiceKey::of(address("2001:db8::1", 25));

// length, type | nested, value, filled up to 4: struct nlattr
constexpr std::string_view kKeyOfSmtp = R"(
  0600 0100 0200 0000
  0600 0200 0600 0000
  1400 0300 c0000201 00000000 00000000 00000000
  0600 0400 0019 0000)";

struct Case {
  const char* name;
  Change change;
  std::uint8_t command;
  std::string attributes;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  all.push_back({"service",
                 {.kind = Kind::new_service, .service = kSmtp, .settings = {.scheduler = "wrr"}},
                 IPVS_CMD_NEW_SERVICE,
                 "5400 0180" + std::string(kKeyOfSmtp) + R"(
                   0800 0600 77727200
                   0c00 0700 00000000 ffffffff
                   0800 0800 00000000
                   0800 0900 ffffffff)"});
  all.push_back(
      {"persistent_by_24_with_fallback",
       {.kind = Kind::set_service,
        .service = kSmtp,
        .settings = {.scheduler = "sh", .flags = kFallback, .persistence = Persistence{43200, 24}}},
       IPVS_CMD_SET_SERVICE,
       "5400 0180" + std::string(kKeyOfSmtp) + R"(
                   0700 0600 73680000
                   0c00 0700 09000000 ffffffff
                   0800 0800 c0a80000
                   0800 0900 ffffff00)"});
  all.push_back({"ipv6_persistent_by_64",
                 {.kind = Kind::new_service,
                  .service = kSmtp6,
                  .settings = {.scheduler = "mh", .persistence = Persistence{60, 64}}},
                 IPVS_CMD_NEW_SERVICE,
                 R"(5400 0180
                   0600 0100 0a00 0000
                   0600 0200 0600 0000
                   1400 0300 20010db8 00000000 00000000 00000001
                   0600 0400 0019 0000
                   0700 0600 6d680000
                   0c00 0700 01000000 ffffffff
                   0800 0800 3c000000
                   0800 0900 40000000)"});
  all.push_back({"firewall_mark",
                 {.kind = Kind::delete_service, .service = ServiceKey::marked(7, AF_INET6)},
                 IPVS_CMD_DEL_SERVICE,
                 R"(1400 0180
                   0600 0100 0a00 0000
                   0800 0500 07000000)"});
  all.push_back({"destination",
                 {.kind = Kind::new_destination,
                  .service = kSmtp,
                  .address = address("10.0.0.11", 2525),
                  .destination = {.method = Method::nat, .weight = 3, .max = 500, .resume = 400}},
                 IPVS_CMD_NEW_DEST,
                 "3000 0180" + std::string(kKeyOfSmtp) + R"(
                   4800 0280
                   0600 0b00 0200 0000
                   1400 0100 0a00000b 00000000 00000000 00000000
                   0600 0200 09dd 0000
                   0800 0300 00000000
                   0800 0400 03000000
                   0800 0500 f4010000
                   0800 0600 90010000)"});
  all.push_back({"destination_by_tunnel_over_ipv6",
                 {.kind = Kind::set_destination,
                  .service = kSmtp,
                  .address = address("2001:db8::b", 25),
                  .destination = {.method = Method::tunnel, .weight = 0}},
                 IPVS_CMD_SET_DEST,
                 "3000 0180" + std::string(kKeyOfSmtp) + R"(
                   4800 0280
                   0600 0b00 0a00 0000
                   1400 0100 20010db8 00000000 00000000 0000000b
                   0600 0200 0019 0000
                   0800 0300 02000000
                   0800 0400 00000000
                   0800 0500 00000000
                   0800 0600 00000000)"});
  all.push_back({"destination_removed",
                 {.kind = Kind::delete_destination,
                  .service = kSmtp,
                  .address = address("10.0.0.11", 25),
                  .destination = {}},
                 IPVS_CMD_DEL_DEST,
                 "3000 0180" + std::string(kKeyOfSmtp) + R"(
                   2800 0280
                   0600 0b00 0200 0000
                   1400 0100 0a00000b 00000000 00000000 00000000
                   0600 0200 0019 0000)"});
  return all;
}

TEST(Messages, changes_are_these_bytes) {
  for (const Case& each : cases()) {
    const Request request = request_for(each.change);
    EXPECT_EQ(request.command, each.command) << each.name;
    EXPECT_EQ(hex(request.attributes), digits(each.attributes)) << each.name;
  }
}

TEST(Messages, questions_timeouts_and_daemons_are_these_bytes) {
  EXPECT_EQ(request_services(), (Request{IPVS_CMD_GET_SERVICE, {}}));
  EXPECT_EQ(request_service(kSmtp),
            (Request{IPVS_CMD_GET_SERVICE, bytes("3000 0180" + std::string(kKeyOfSmtp))}));
  EXPECT_EQ(request_destinations(kSmtp),
            (Request{IPVS_CMD_GET_DEST, bytes("3000 0180" + std::string(kKeyOfSmtp))}));
  EXPECT_EQ(request_set_timeouts({.tcp_s = 2100, .tcp_fin_s = 300}),
            (Request{IPVS_CMD_SET_CONFIG, bytes("0800 0400 34080000  0800 0500 2c010000")}));
  EXPECT_EQ(request_set_timeouts({.tcp_s = 2100}),
            (Request{IPVS_CMD_SET_CONFIG, bytes("0800 0400 34080000")}));
  const SyncDaemon daemon{.master = true, .interface = "eth1", .id = 5};
  EXPECT_EQ(
      request_start(daemon),
      (Request{
          IPVS_CMD_NEW_DAEMON,
          bytes(
              "2000 0380  0800 0100 01000000  0900 0200 65746831 00000000  0800 0300 05000000")}));
  EXPECT_EQ(request_stop(daemon),
            (Request{IPVS_CMD_DEL_DAEMON, bytes("0c00 0380  0800 0100 01000000")}));
}

TEST(Messages, what_was_asked_for_is_read_back_as_it_was) {
  for (const Case& each : cases()) {
    const Bytes attributes = request_for(each.change).attributes;
    if (each.change.kind == Kind::new_service || each.change.kind == Kind::set_service) {
      const auto reply = decode_service(attributes);
      ASSERT_TRUE(reply) << each.name;
      EXPECT_EQ(reply->key, each.change.service) << each.name;
      EXPECT_EQ(reply->settings, each.change.settings) << each.name;
    }
    if (each.change.kind == Kind::new_destination || each.change.kind == Kind::set_destination) {
      const auto reply = decode_destination(attributes, AF_INET);
      ASSERT_TRUE(reply) << each.name;
      EXPECT_EQ(reply->address, each.change.address) << each.name;
      EXPECT_EQ(reply->destination, each.change.destination) << each.name;
    }
  }
  EXPECT_EQ(decode_timeouts(request_set_timeouts({9, 8}).attributes), (Timeouts{9, 8}));
  const SyncDaemon daemon{.master = false, .interface = "eth1", .id = 5};
  EXPECT_EQ(decode_daemon(request_start(daemon).attributes), daemon);
}

TEST(Messages, counters_come_with_a_destination) {
  const auto reply = decode_destination(bytes(R"(7c00 0280
      1400 0100 0a00000b 00000000 00000000 00000000
      0600 0200 0019 0000
      0800 0300 83000000
      0800 0400 01000000
      0800 0700 04000000
      0800 0800 05000000
      0800 0900 06000000
      3400 0c00
        0c00 0100 0a000000 00000000
        0c00 0400 00000000 01000000
        0c00 0500 07000000 00000000
        0c00 0600 02000000 00000000)"),
                                        AF_INET);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->destination.method, Method::direct);
  EXPECT_EQ(reply->use.active, 4u);
  EXPECT_EQ(reply->use.inactive, 5u);
  EXPECT_EQ(reply->use.persistent, 6u);
  EXPECT_EQ(reply->use.traffic.connections, 10u);
  EXPECT_EQ(reply->use.traffic.bytes_in, 0x100000000u);
  EXPECT_EQ(reply->use.traffic.bytes_out, 7u);
  EXPECT_EQ(reply->use.traffic.connections_per_s, 2u);
}

TEST(Messages, what_is_cut_off_or_out_of_range_is_no_answer) {
  const Bytes service = request_for(cases()[0].change).attributes;
  for (std::size_t size = 0; size < service.size(); ++size) {
    Bytes cut(service.begin(), service.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(decode_service(cut)) << size;
  }
  Bytes wrong_family = service;
  wrong_family[8] = 1;
  EXPECT_FALSE(decode_service(wrong_family));
  EXPECT_FALSE(decode_destination(service, AF_INET));
  EXPECT_FALSE(decode_timeouts(service));
  EXPECT_FALSE(decode_daemon(service));
}

TEST(Messages, mask_with_holes_is_none_of_ours) {
  Bytes service = request_for(cases()[1].change).attributes;
  service[service.size() - 3] = 0;  // 255.0.255.0
  const auto reply = decode_service(service);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->settings.persistence, (Persistence{43200, 0}));
}

TEST(Datagrams, messages_are_told_apart) {
  Bytes datagram;
  append(datagram, request_service(kSmtp), 33, 0, 7);
  append(datagram, request_services(), 33, 0, 8);
  const Bytes error = bytes("14000000 0200 0000 09000000 00000000 feffffff");
  const Bytes done = bytes("14000000 0300 1000 0a000000 00000000 00000000");
  datagram.insert(datagram.end(), error.begin(), error.end());
  datagram.insert(datagram.end(), done.begin(), done.end());
  std::vector<std::string> seen;
  EXPECT_TRUE(for_each_message(datagram, [&](const Message& message) {
    seen.push_back(fmt::format("{} {} {} {} {} {}", static_cast<int>(message.kind),
                               message.sequence, message.command, message.attributes.size(),
                               message.error, message.interrupted));
  }));
  EXPECT_EQ(seen, (std::vector<std::string>{"0 7 4 48 0 false", "0 8 4 0 0 false",
                                            "2 9 0 0 2 false", "1 10 0 0 0 true"}));
}

TEST(Datagrams, what_is_not_whole_messages_is_refused) {
  const auto refused = [](std::string_view text) {
    return !for_each_message(bytes(text), [](const Message&) {});
  };
  EXPECT_TRUE(refused("00"));
  EXPECT_TRUE(refused("0f000000 0200 0000 09000000 00000000"));           // shorter than a header
  EXPECT_TRUE(refused("18000000 0200 0000 09000000 00000000 00000000"));  // longer than all
  EXPECT_TRUE(refused("10000000 0200 0000 09000000 00000000"));           // an error without number
  EXPECT_TRUE(refused("14000000 0200 0000 09000000 00000000 01000000"));  // not a kernel's number
  EXPECT_TRUE(refused("12000000 2100 0000 09000000 00000000 0400 0000"));  // no generic header
}

}  // namespace
}  // namespace poise::ipvs
