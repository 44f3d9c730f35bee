#include "pair/messages.h"

#include <gtest/gtest.h>

namespace poise::pair {
namespace {

Address ip(const char* text) {
  return *Address::from_ip(text);
}

/// One of each, with every member away from its default.
std::vector<Message> examples() {
  return {
      Hello{.version_min = 2,
            .version_max = 7,
            .node = "lb1",
            .program = "0.1.0",
            .epoch = 0xfedcba9876543210u,
            .heard_epoch = 77,
            .heard = 78},
      Ping{.wall_ms = -5, .role = Role::master, .priority = 150, .config = 99},
      Ack{.number = 1u << 31u},
      Request{.id = 9, .verb = "take", .text = std::string(100'000, 'x')},
      Answer{.id = 9, .good = true, .text = "fine"},
      Numbered{.number = 3,
               .change = StickyBatch{.pool = "mx",
                                     .backends = {"mx1", "mx2"},
                                     .entries = {{ip("192.0.2.0"), 0, 17},
                                                 {ip("2001:db8::"), 1, 4'000'000'000}}}},
      Numbered{.number = 4,
               .change = Decision{.name = "mx/mx1",
                                  .admin = 1,
                                  .changed_ms = 1'700'000'000'123,
                                  .since_ms = 1'600'000'000'000,
                                  .user = "root",
                                  .reason = "new kernel",
                                  .weight = 3,
                                  .weight_configured = 5}},
      Numbered{.number = 5,
               .change = BanChange{.network = {.base = ip("203.0.113.0"), .prefix = 24},
                                   .banned = false,
                                   .since_ms = 1,
                                   .until_ms = 2,
                                   .user = "fail2ban",
                                   .reason = "sasl"}},
      Numbered{.number = 6, .change = Verdict{.backend = "mx/mx1", .up = true}},
      Numbered{.number = 7, .change = SnapshotEnd{}},
  };
}

std::string frame_of(const Message& message) {
  std::string out;
  encode(message, out);
  return out;
}

TEST(Messages, come_back_as_they_were) {
  for (const Message& each : examples()) {
    const std::string frame = frame_of(each);
    ASSERT_EQ(frame_length(frame), frame.size() - 4);
    const auto back = decode(std::string_view(frame).substr(4));
    ASSERT_TRUE(back) << back.error().text();
    EXPECT_EQ(*back, each);
  }
}

TEST(Messages, that_are_cut_anywhere_are_errors_or_another_message) {
  for (const Message& each : examples()) {
    const std::string frame = frame_of(each).substr(4);
    const std::size_t step = frame.size() > 1000 ? 997 : 1;
    for (std::size_t size = 1; size + 1 < frame.size(); size += step) {
      const auto back = decode(std::string_view(frame).substr(0, size));
      EXPECT_TRUE(!back || *back != each) << size;
    }
  }
}

/// What a newer version appends is skipped, what it invents is nothing to us.
TEST(Messages, of_a_newer_version_are_read_as_far_as_known) {
  for (const Message& each : examples()) {
    const std::string frame = frame_of(each).substr(4) + "and more";
    const auto back = decode(frame);
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, each);
  }
  const auto type = decode("\x63 of the future");
  ASSERT_TRUE(type);
  EXPECT_EQ(type->index(), 0u);
  std::string kind = frame_of(Numbered{.number = 8, .change = SnapshotEnd{}}).substr(4);
  kind[9] = 0x63;
  const auto change = decode(kind);
  ASSERT_TRUE(change);
  EXPECT_EQ(std::get<Numbered>(*change).number, 8u);
  EXPECT_EQ(std::get<Numbered>(*change).change.index(), 0u);
}

TEST(Messages, with_impossible_members_are_errors) {
  StickyBatch batch{.pool = "mx", .backends = {"mx1"}, .entries = {{ip("192.0.2.0"), 1, 0}}};
  EXPECT_FALSE(decode(frame_of(Numbered{.number = 1, .change = batch}).substr(4)));
  batch.entries.assign(kBatchMax + 1, {ip("192.0.2.0"), 0, 0});
  EXPECT_FALSE(decode(frame_of(Numbered{.number = 1, .change = batch}).substr(4)));
  BanChange ban;
  ban.network = {.base = ip("192.0.2.0"), .prefix = 33};
  EXPECT_FALSE(decode(frame_of(Numbered{.number = 1, .change = ban}).substr(4)));
  EXPECT_FALSE(decode(""));
}

}  // namespace
}  // namespace poise::pair
