#include "io/blocks.h"

#include <sys/mman.h>

#include <new>

#include "poise/check.h"

namespace poise::io {
namespace {
constexpr std::size_t kWarmBlocks = 64;
}

BlockPool::BlockPool(std::uint32_t blocks_max) : blocks_max_(blocks_max) {
  void* memory = ::mmap(nullptr, blocks_max * kBlockBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<std::byte*>(memory);
}

BlockPool::~BlockPool() {
  ::munmap(memory_, blocks_max_ * kBlockBytes);
}

std::uint32_t BlockPool::take() {
  std::uint32_t block = kNoBlock;
  if (!warm_.empty()) {
    block = warm_.back();
    warm_.pop_back();
  } else if (!cold_.empty()) {
    block = cold_.back();
    cold_.pop_back();
  } else if (fresh_ < blocks_max_) {
    block = fresh_++;
    next_.push_back(kNoBlock);
  } else {
    return kNoBlock;
  }
  ++used_;
  next_[block] = kNoBlock;
  return block;
}

void BlockPool::give_back(std::uint32_t block) {
  CHECK(block < fresh_ && used_ > 0);
  --used_;
  if (warm_.size() < kWarmBlocks) {
    warm_.push_back(block);
    return;
  }
  ::madvise(memory_ + block * kBlockBytes, kBlockBytes, MADV_DONTNEED);
  cold_.push_back(block);
}

std::span<std::byte> BlockPool::bytes(std::uint32_t block) const {
  return {memory_ + block * kBlockBytes, kBlockBytes};
}

}  // namespace poise::io
