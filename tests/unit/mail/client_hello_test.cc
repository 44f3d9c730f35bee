#include "mail/client_hello.h"

#include <gtest/gtest.h>

#include <string>

namespace poise::mail {
namespace {

using Status = ClientHello::Status;

std::string record(const std::string& payload, char type = 22) {
  std::string header{type, 3, 1, static_cast<char>(payload.size() >> 8),
                     static_cast<char>(payload.size())};
  return header + payload;
}

std::string message(std::size_t length, char type = 1) {
  return std::string{type, static_cast<char>(length >> 16), static_cast<char>(length >> 8),
                     static_cast<char>(length)} +
         std::string(length, 'x');
}

// In one piece or byte by byte: partial until the last byte, then complete.
void expect_complete(const std::string& bytes) {
  EXPECT_EQ(ClientHello{}.take(bytes), Status::complete);
  ClientHello hello;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    ASSERT_EQ(hello.take(bytes.substr(i, 1)),
              i + 1 < bytes.size() ? Status::partial : Status::complete)
        << i;
  EXPECT_EQ(hello.take("x"), Status::beyond);
}

TEST(ClientHello, ends_with_its_message) {
  expect_complete(record(message(512)));
  expect_complete(record(message(0)));
}

TEST(ClientHello, may_lie_in_several_records) {
  const std::string whole = message(20'000);
  expect_complete(record(whole.substr(0, 16'384)) + record(whole.substr(16'384)));
  expect_complete(record(whole.substr(0, 2)) + record(whole.substr(2, 1)) +
                  record(whole.substr(3, 9'000)) + record(whole.substr(9'003)));
}

// Early data, a second message in the same record, a plain-text client, an empty record, another
// kind of record or message, another protocol version, too much: never to be replayed.
TEST(ClientHello, everything_else_is_beyond) {
  const std::string hello = record(message(100));
  EXPECT_EQ(ClientHello{}.take(hello + record("early data", 23)), Status::beyond);
  EXPECT_EQ(ClientHello{}.take(record(message(100) + message(3))), Status::beyond);
  EXPECT_EQ(ClientHello{}.take("EHLO client.example\r\n"), Status::beyond);
  EXPECT_EQ(ClientHello{}.take(record("")), Status::beyond);
  EXPECT_EQ(ClientHello{}.take(record(message(9), 23)), Status::beyond);
  EXPECT_EQ(ClientHello{}.take(record(message(9, 2))), Status::beyond);
  EXPECT_EQ(ClientHello{}.take(std::string("\x16\x02\x01", 3)), Status::beyond);
  std::string long_one;
  const std::string whole = message(40'000);
  for (std::size_t at = 0; at < whole.size(); at += 16'000)
    long_one += record(whole.substr(at, 16'000));
  ClientHello too_long;
  EXPECT_EQ(too_long.take(long_one.substr(0, kClientHelloBytesMax)), Status::partial);
  EXPECT_EQ(too_long.take(long_one.substr(kClientHelloBytesMax, 1)), Status::beyond);
}

}  // namespace
}  // namespace poise::mail
