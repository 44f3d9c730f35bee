#include "pair/protocol.h"

#include <gtest/gtest.h>

#include <random>

namespace poise::pair {
namespace {

Protocol::Self self(const char* node, const char* peer, std::uint64_t epoch) {
  return {.node = node, .program = "0.1.0", .peer = peer, .epoch = epoch};
}

/// Two boxes and the bytes between them.
struct Boxes {
  Protocol one{self("lb1", "lb2", 11)}, two{self("lb2", "lb1", 22)};

  void connect() {
    one.connected();
    two.connected();
  }
  /// All that is on its way arrives, and what that makes them say, in pieces of `piece` bytes.
  Result<void> settle(std::size_t piece = 1 << 20) {
    while (!one.output().empty() || !two.output().empty()) {
      for (auto [from, to] : {std::pair(&one, &two), std::pair(&two, &one)}) {
        const std::string bytes = from->output().substr(0, piece);
        from->output().erase(0, bytes.size());
        if (auto good = to->receive(bytes); !good) return good;
      }
    }
    return {};
  }
};

std::vector<std::string> verdicts(Protocol& box) {
  std::vector<std::string> names;
  for (const Event& each : box.take_events())
    if (const auto* change = std::get_if<Change>(&each))
      if (const auto* verdict = std::get_if<Verdict>(change)) names.push_back(verdict->backend);
  return names;
}

const Joined* joined_of(const std::vector<Event>& events) {
  for (const Event& each : events)
    if (const auto* joined = std::get_if<Joined>(&each)) return joined;
  return nullptr;
}

Verdict named(int number) {
  return {.backend = std::to_string(number), .up = true};
}

TEST(Protocol, strangers_join_and_want_everything) {
  Boxes boxes;
  EXPECT_FALSE(boxes.one.room());
  boxes.connect();
  ASSERT_TRUE(boxes.settle(1));
  const auto events = boxes.one.take_events();
  const Joined* joined = joined_of(events);
  ASSERT_NE(joined, nullptr);
  EXPECT_EQ(joined->peer.node, "lb2");
  EXPECT_EQ(joined->version, kVersionMax);
  EXPECT_TRUE(joined->wants_everything);
  EXPECT_TRUE(joined->forgot);
  EXPECT_TRUE(boxes.two.joined());
}

TEST(Protocol, changes_arrive_once_in_order_and_are_acknowledged) {
  Boxes boxes;
  boxes.connect();
  ASSERT_TRUE(boxes.settle());
  static_cast<void>(boxes.two.take_events());
  for (int i = 1; i <= 3; ++i) boxes.one.push(named(i));
  EXPECT_EQ(boxes.one.unacknowledged(), 3u);
  ASSERT_TRUE(boxes.settle(3));
  EXPECT_EQ(verdicts(boxes.two), (std::vector<std::string>{"1", "2", "3"}));
  EXPECT_EQ(boxes.one.unacknowledged(), 0u);
  EXPECT_EQ(boxes.one.acknowledged(), 3u);
}

/// Connections that break after any number of bytes: nothing is lost, nothing comes twice, and a
/// peer that still knows what it heard is not told everything again.
TEST(Protocol, broken_connections_lose_and_repeat_nothing) {
  for (unsigned seed = 1; seed <= 300; ++seed) {
    std::mt19937 random(seed);
    Boxes boxes;
    std::vector<std::string> said, heard;
    unsigned told_everything = 0;
    const auto look = [&] {
      const auto events = boxes.one.take_events();
      const Joined* joined = joined_of(events);
      if (joined != nullptr && joined->wants_everything) {
        ++told_everything;
        EXPECT_TRUE(heard.empty()) << seed;
        for (const std::string& each : said) boxes.one.push(Verdict{.backend = each, .up = true});
      }
      for (const std::string& each : verdicts(boxes.two)) heard.push_back(each);
    };
    for (int life = 0; life < 8; ++life) {
      boxes.connect();
      for (auto step = random() % 60; step > 0; --step) {
        if (boxes.one.room() && random() % 3 == 0) {
          said.push_back(std::to_string(said.size() + 1));
          boxes.one.push(Verdict{.backend = said.back(), .up = true});
        }
        for (auto [from, to] : {std::pair(&boxes.one, &boxes.two), {&boxes.two, &boxes.one}}) {
          const std::string bytes = from->output().substr(0, random() % 60);
          from->output().erase(0, bytes.size());
          ASSERT_TRUE(to->receive(bytes)) << seed;
          look();
        }
      }
      boxes.one.disconnected();
      boxes.two.disconnected();
    }
    boxes.connect();
    for (int turn = 0; turn < 3; ++turn) {
      ASSERT_TRUE(boxes.settle()) << seed;
      look();
    }
    ASSERT_EQ(heard, said) << seed;
    EXPECT_EQ(boxes.one.unacknowledged(), 0u) << seed;
    EXPECT_GE(told_everything, 1u);
  }
}

TEST(Protocol, peer_in_a_new_life_is_told_everything) {
  Boxes boxes;
  boxes.connect();
  ASSERT_TRUE(boxes.settle());
  boxes.one.push(named(1));
  ASSERT_TRUE(boxes.settle());
  boxes.one.push(named(2));  // lost with the peer
  boxes.one.disconnected();
  static_cast<void>(boxes.one.take_events());
  Protocol reborn(self("lb2", "lb1", 33));
  boxes.one.connected();
  reborn.connected();
  ASSERT_TRUE(reborn.receive(std::exchange(boxes.one.output(), {})));
  ASSERT_TRUE(boxes.one.receive(std::exchange(reborn.output(), {})));
  const auto events = boxes.one.take_events();
  const Joined* joined = joined_of(events);
  ASSERT_NE(joined, nullptr);
  EXPECT_TRUE(joined->wants_everything);
  EXPECT_TRUE(joined->forgot);
  EXPECT_EQ(boxes.one.unacknowledged(), 0u);
  boxes.one.push(named(3));
  ASSERT_TRUE(reborn.receive(std::exchange(boxes.one.output(), {})));
  EXPECT_EQ(verdicts(reborn), std::vector<std::string>{"3"});
}

TEST(Protocol, newer_speaks_older) {
  auto newer = self("lb1", "lb2", 1), older = self("lb2", "lb1", 2);
  newer.version_max = 3;
  Protocol one(newer), two(older);
  one.connected();
  two.connected();
  ASSERT_TRUE(one.receive(two.output()));
  ASSERT_TRUE(two.receive(one.output()));
  const auto events = one.take_events();
  EXPECT_EQ(joined_of(events)->version, 1);
}

TEST(Protocol, versions_without_a_common_one_do_not_join) {
  auto newer = self("lb1", "lb2", 1);
  newer.version_min = 2;
  newer.version_max = 3;
  Protocol one(newer), two(self("lb2", "lb1", 2));
  one.connected();
  two.connected();
  const auto refused = one.receive(two.output());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what.find("speaks versions 1 to 1"), std::string::npos)
      << refused.error().what;
  EXPECT_FALSE(two.receive(one.output()));
  EXPECT_FALSE(one.joined());
}

TEST(Protocol, only_the_named_peer_joins) {
  Protocol one(self("lb1", "lb2", 1)), two(self("lb9", "lb1", 2));
  one.connected();
  two.connected();
  const auto refused = one.receive(two.output());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what.find("lb9"), std::string::npos);
}

TEST(Protocol, refuses_what_breaks_it) {
  const auto fed = [](const std::vector<Message>& messages, std::string raw = {}) {
    Protocol one(self("lb1", "lb2", 1));
    one.connected();
    std::string bytes;
    for (const Message& each : messages) encode(each, bytes);
    return static_cast<bool>(one.receive(bytes + raw));
  };
  const Hello hello{.node = "lb2", .program = "", .epoch = 2};
  EXPECT_TRUE(fed({hello}));
  EXPECT_FALSE(fed({Ping{}}));                                     // before the greeting
  EXPECT_FALSE(fed({hello, hello}));                               // twice
  EXPECT_FALSE(fed({}, std::string("\xff\xff\xff\xff")));          // too long
  EXPECT_FALSE(fed({}, std::string("\x00\x00\x20\x00", 4)));       // for a greeting
  EXPECT_TRUE(fed({hello}, std::string("\x00\x00\x20\x00", 4)));   // not for what follows
  EXPECT_FALSE(fed({hello}, std::string("\x00\x00\x00\x00", 4)));  // no type
  EXPECT_FALSE(fed({hello, Numbered{.number = 5, .change = SnapshotEnd{}},
                    Numbered{.number = 7, .change = SnapshotEnd{}}}));  // a gap
  EXPECT_TRUE(fed({hello, Numbered{.number = 5, .change = SnapshotEnd{}},
                   Numbered{.number = 5, .change = SnapshotEnd{}}}));  // said again
  EXPECT_TRUE(fed({hello, Ack{.number = 1000}}));
}

TEST(Protocol, window_closes_until_the_peer_has_caught_up) {
  Boxes boxes;
  boxes.connect();
  ASSERT_TRUE(boxes.settle());
  int pushed = 0;
  while (boxes.one.room()) {
    boxes.one.push(Verdict{.backend = std::string(1000, 'x'), .up = true});
    ASSERT_LT(++pushed, 1000);
  }
  EXPECT_GT(pushed, 400);
  ASSERT_TRUE(boxes.settle());
  EXPECT_TRUE(boxes.one.room());
}

}  // namespace
}  // namespace poise::pair
