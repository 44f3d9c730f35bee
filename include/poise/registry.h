#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "poise/check.h"

namespace poise {

/// Things numbered from 0 that are never removed and never move: what outlives snapshots is kept in
/// these, by id. One thread grows it; any thread may use an element whose number it has from that
/// thread (a snapshot, a record).
template <class T>
class Registry {
 public:
  static constexpr std::uint32_t kChunk = 64, kChunks = 1024;  ///< 65,536 elements at most

  Registry() = default;
  ~Registry() {
    for (auto& chunk : chunks_) delete[] chunk.load(std::memory_order_relaxed);
  }
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  /// Makes elements 0..count-1 exist. Growing thread only.
  void grow(std::uint32_t count) {
    CHECK(count <= kChunk * kChunks);
    for (std::uint32_t chunk = 0; chunk * kChunk < count; ++chunk)
      if (chunks_[chunk].load(std::memory_order_relaxed) == nullptr)
        chunks_[chunk].store(new T[kChunk](), std::memory_order_release);
  }

  T& operator[](std::uint32_t index) {
    return chunks_[index / kChunk].load(std::memory_order_acquire)[index % kChunk];
  }
  const T& operator[](std::uint32_t index) const {
    return chunks_[index / kChunk].load(std::memory_order_acquire)[index % kChunk];
  }

 private:
  std::array<std::atomic<T*>, kChunks> chunks_{};
};

}  // namespace poise
