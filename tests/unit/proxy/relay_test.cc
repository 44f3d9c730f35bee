#include "proxy/relay.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace poise::proxy {
namespace {

std::vector<std::byte> pattern(std::size_t from, std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>((from + i) * 31 >> 2);
  return bytes;
}

// What is appended comes out in order whatever the sizes, and every block goes back.
TEST(Relay, held_bytes_are_a_fifo) {
  io::BlockPool blocks(64);
  Relay relay;
  std::mt19937 random(1);
  std::size_t in = 0, out = 0;
  for (int round = 0; round < 4000; ++round) {
    if (random() % 2 == 0 && relay.held_bytes < 500'000) {
      const std::size_t count = 1 + random() % 40'000;
      ASSERT_TRUE(relay.append(blocks, pattern(in, count)));
      in += count;
    } else if (relay.held_bytes > 0) {
      const auto front = relay.front(blocks);
      const auto expected = pattern(out, front.size());
      ASSERT_TRUE(std::equal(front.begin(), front.end(), expected.begin()));
      const auto taken = static_cast<std::uint32_t>(1 + random() % front.size());
      relay.consume(blocks, taken);
      out += taken;
    }
    ASSERT_EQ(relay.held_bytes, in - out);
  }
  while (relay.held_bytes > 0)
    relay.consume(blocks, static_cast<std::uint32_t>(relay.front(blocks).size()));
  EXPECT_EQ(blocks.used(), 0u);
}

// Without a block it says so, and what had been held can still be dropped.
TEST(Relay, says_when_blocks_run_out) {
  io::BlockPool blocks(2);
  Relay relay;
  EXPECT_TRUE(relay.append(blocks, pattern(0, 2 * io::BlockPool::kBlockBytes)));
  EXPECT_FALSE(relay.append(blocks, pattern(0, 1)));
  relay.drop_held(blocks);
  EXPECT_EQ(blocks.used(), 0u);
  EXPECT_EQ(relay.held_bytes, 0u);
  EXPECT_TRUE(relay.front(blocks).empty());
}

}  // namespace
}  // namespace poise::proxy
