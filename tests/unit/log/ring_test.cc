// The byte ring between a worker and the log thread: records of any length come out whole and in
// order, across the end of the memory, and a full ring refuses exactly what does not fit.

#include "log/ring.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace poise::log {
namespace {

bool put(Ring& ring, std::uint32_t tag, std::size_t size) {
  std::byte* room = ring.reserve(tag, size);
  if (room == nullptr) return false;
  std::memset(room, static_cast<int>(tag & 0xff), size);
  ring.publish();
  return true;
}

TEST(Ring, gives_back_what_was_put_in_order) {
  Ring ring(1024);
  for (std::uint32_t tag = 0; tag < 5; ++tag) ASSERT_TRUE(put(ring, tag, 10 + tag));
  ring.refresh();
  for (std::uint32_t tag = 0; tag < 5; ++tag) {
    const Ring::Item item = ring.front();
    ASSERT_NE(item.data, nullptr);
    EXPECT_EQ(item.tag, tag);
    for (std::size_t i = 0; i < 10 + tag; ++i) EXPECT_EQ(item.data[i], static_cast<std::byte>(tag));
    ring.pop();
  }
  EXPECT_EQ(ring.front().data, nullptr);
}

TEST(Ring, is_seen_only_after_publish_and_refresh) {
  Ring ring(1024);
  ASSERT_NE(ring.reserve(7, 8), nullptr);
  EXPECT_FALSE(ring.waiting());
  ring.publish();
  EXPECT_TRUE(ring.waiting());
  EXPECT_EQ(ring.front().data, nullptr);
  ring.refresh();
  EXPECT_EQ(ring.front().tag, 7u);
}

TEST(Ring, full_ring_refuses_and_recovers) {
  Ring ring(256);
  // 24 bytes and 8 of header: 8 records fill 256 bytes to the last one.
  for (std::uint32_t i = 0; i < 8; ++i) ASSERT_TRUE(put(ring, i, 24)) << i;
  EXPECT_FALSE(put(ring, 8, 1));
  ring.refresh();
  ASSERT_EQ(ring.front().tag, 0u);
  ring.pop();
  EXPECT_FALSE(put(ring, 9, 25));
  EXPECT_TRUE(put(ring, 10, 24));
  EXPECT_FALSE(put(ring, 11, 1));
}

TEST(Ring, half_full_is_noticed_by_both_sides) {
  Ring ring(256);
  for (std::uint32_t i = 0; i < 4; ++i) ASSERT_TRUE(put(ring, i, 24));
  EXPECT_FALSE(ring.more_than_half_full());
  EXPECT_FALSE(ring.waiting_more_than_half());
  ASSERT_TRUE(put(ring, 4, 24));
  EXPECT_TRUE(ring.more_than_half_full());
  EXPECT_TRUE(ring.waiting_more_than_half());
  ring.refresh();
  static_cast<void>(ring.front());
  ring.pop();
  EXPECT_FALSE(ring.more_than_half_full());
  EXPECT_FALSE(ring.waiting_more_than_half());
}

// Random lengths, random moments of reading: a model (a queue of what was accepted) says what must
// come out.
TEST(Ring, records_of_any_length_survive_the_wrap) {
  std::mt19937 random(20261121);
  for (int round = 0; round < 50; ++round) {
    Ring ring(512);
    std::vector<std::pair<std::uint32_t, std::size_t>> accepted;
    std::size_t taken = 0;
    std::size_t refused = 0;
    for (std::uint32_t tag = 0; tag < 2000; ++tag) {
      const std::size_t size = random() % 200;
      if (put(ring, tag, size))
        accepted.emplace_back(tag, size);
      else
        ++refused;
      if (random() % 3 != 0) continue;
      ring.refresh();
      for (std::size_t n = random() % 6; n > 0; --n) {
        const Ring::Item item = ring.front();
        if (item.data == nullptr) break;
        ASSERT_LT(taken, accepted.size());
        ASSERT_EQ(item.tag, accepted[taken].first);
        for (std::size_t i = 0; i < accepted[taken].second; ++i) {
          ASSERT_EQ(item.data[i], static_cast<std::byte>(item.tag & 0xff));
        }
        ring.pop();
        ++taken;
      }
    }
    EXPECT_GT(refused, 0u);
    EXPECT_GT(taken, 500u);
  }
}

TEST(Ring, two_threads_lose_and_reorder_nothing) {
  constexpr std::uint32_t kRecords = 300'000;
  Ring ring(4096);
  std::thread producer([&ring] {
    for (std::uint32_t tag = 0; tag < kRecords;) {
      if (put(ring, tag, tag % 97))
        ++tag;
      else
        std::this_thread::yield();
    }
  });
  for (std::uint32_t expected = 0; expected < kRecords;) {
    ring.refresh();
    bool any = false;
    for (Ring::Item item = ring.front(); item.data != nullptr; item = ring.front()) {
      ASSERT_EQ(item.tag, expected);
      for (std::size_t i = 0; i < expected % 97; ++i)
        ASSERT_EQ(item.data[i], static_cast<std::byte>(expected & 0xff));
      ring.pop();
      ++expected;
      any = true;
    }
    if (!any) std::this_thread::yield();
  }
  producer.join();
  EXPECT_FALSE(ring.waiting());
}

}  // namespace
}  // namespace poise::log
