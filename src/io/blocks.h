#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace poise::io {

inline constexpr std::uint32_t kNoBlock = UINT32_MAX;

/// Private memory for what a send could not take at once: blocks of 16 KiB, chained by index, from
/// one reservation that costs nothing until touched. Bounded; memory beyond a few free blocks goes
/// back to the kernel. One thread.
class BlockPool {
 public:
  static constexpr std::size_t kBlockBytes = 16384;

  /// Reserves address space for `blocks_max` blocks; throws std::bad_alloc when even that is not to
  /// be had.
  explicit BlockPool(std::uint32_t blocks_max);
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  /// kNoBlock when all are taken.
  std::uint32_t take();
  void give_back(std::uint32_t block);

  [[nodiscard]] std::span<std::byte> bytes(std::uint32_t block) const;
  [[nodiscard]] std::uint32_t next(std::uint32_t block) const { return next_[block]; }
  void set_next(std::uint32_t block, std::uint32_t next) { next_[block] = next; }

  [[nodiscard]] std::uint32_t used() const { return used_; }
  [[nodiscard]] std::uint32_t blocks_max() const { return blocks_max_; }

 private:
  std::byte* memory_ = nullptr;
  std::uint32_t blocks_max_;
  std::uint32_t used_ = 0;
  std::uint32_t fresh_ = 0;          // blocks from here on were never taken
  std::vector<std::uint32_t> warm_;  // free, their memory still there
  std::vector<std::uint32_t> cold_;  // free, their memory given back
  std::vector<std::uint32_t> next_;
};

}  // namespace poise::io
