#include "io/blocks.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <vector>

namespace poise::io {
namespace {

// No more than the bound, each block its own memory, and what was given back can be had again.
TEST(BlockPool, is_bounded_and_reuses) {
  BlockPool pool(3);
  std::set<std::uint32_t> taken;
  for (int i = 0; i < 3; ++i) taken.insert(pool.take());
  EXPECT_EQ(taken.size(), 3u);
  EXPECT_EQ(pool.take(), kNoBlock);
  EXPECT_EQ(pool.used(), 3u);
  pool.give_back(1);
  EXPECT_EQ(pool.take(), 1u);
}

// Blocks do not overlap.
TEST(BlockPool, blocks_keep_their_bytes) {
  BlockPool pool(8);
  for (std::uint32_t i = 0; i < 8; ++i) {
    const std::uint32_t block = pool.take();
    std::memset(pool.bytes(block).data(), static_cast<int>(block + 1), BlockPool::kBlockBytes);
  }
  for (std::uint32_t block = 0; block < 8; ++block) {
    const auto bytes = pool.bytes(block);
    EXPECT_EQ(static_cast<unsigned>(bytes.front()), block + 1);
    EXPECT_EQ(static_cast<unsigned>(bytes.back()), block + 1);
  }
}

// Beyond the few that are kept warm, memory goes back to the kernel: it reads as zero.
TEST(BlockPool, gives_memory_back) {
  constexpr std::uint32_t kBlocks = 200;
  BlockPool pool(kBlocks);
  std::vector<std::uint32_t> blocks;
  for (std::uint32_t i = 0; i < kBlocks; ++i) {
    blocks.push_back(pool.take());
    std::memset(pool.bytes(blocks.back()).data(), 0xff, BlockPool::kBlockBytes);
  }
  for (const std::uint32_t block : blocks) pool.give_back(block);
  EXPECT_EQ(pool.used(), 0u);
  std::uint32_t zero = 0;
  for (const std::uint32_t block : blocks) zero += pool.bytes(block)[0] == std::byte{0};
  EXPECT_GE(zero, kBlocks / 2);
}

}  // namespace
}  // namespace poise::io
