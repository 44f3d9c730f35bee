#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "balance/hash.h"
#include "poise/address.h"

/// What the tables of sources (sticky_table, source_table) have in common. Pure.
namespace poise::balance {

/// Values by source, in the order of their last use. Not thread-safe: one shard of a table, under
/// its mutex. Entries are numbered; a number stays good until erase(), whatever else happens. It
/// knows its capacity but leaves what to do about it to its owner: add() always adds.
///
/// Memory: four bytes a bucket, reserved at once but not touched before use; nodes in chunks of
/// kChunk, made when needed, used again when erased, given back by the destructor. No call takes
/// longer with more entries, but for set_capacity() and for_each().
template <class Value>
class LruMap {
 public:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  static constexpr std::uint32_t kChunk = 256;

  struct Node {
    Address source;
    Value value{};

   private:
    friend class LruMap;
    std::uint32_t chain = kNone;  ///< the next in its bucket, or in the free list
    std::uint32_t newer = kNone;
    std::uint32_t older = kNone;
  };

  /// `key`: see hash_ip().
  LruMap(std::uint32_t capacity, std::uint64_t key) : key_(key) { set_capacity(capacity); }

  [[nodiscard]] std::uint32_t size() const { return size_; }
  [[nodiscard]] bool full() const { return size_ >= capacity_; }
  [[nodiscard]] bool overfull() const { return size_ > capacity_; }

  Node& operator[](std::uint32_t index) { return (*chunks_[index / kChunk])[index % kChunk]; }

  [[nodiscard]] std::uint32_t find(const Address& source) {
    std::uint32_t index = head(bucket_of(source));
    while (index != kNone && (*this)[index].source != source) index = (*this)[index].chain;
    return index;
  }

  /// `source` must not be there; becomes the newest. kNone: no memory.
  [[nodiscard]] std::uint32_t add(const Address& source) {
    if (free_ == kNone && !grow()) return kNone;
    const std::uint32_t index = free_;
    Node& node = (*this)[index];
    free_ = node.chain;
    node.source = source;
    node.value = Value{};
    std::uint32_t& bucket = buckets_[bucket_of(source)];
    node.chain = bucket - 1;  // 0 - 1 is kNone
    bucket = index + 1;
    ++size_;
    link_newest(index);
    return index;
  }

  void erase(std::uint32_t index) {
    Node& node = (*this)[index];
    unlink(index);
    const std::size_t bucket = bucket_of(node.source);
    if (head(bucket) == index) {
      buckets_[bucket] = node.chain + 1;
    } else {
      std::uint32_t before = head(bucket);
      while ((*this)[before].chain != index) before = (*this)[before].chain;
      (*this)[before].chain = node.chain;
    }
    node.chain = free_;
    free_ = index;
    --size_;
  }

  /// Makes it the newest.
  void touch(std::uint32_t index) {
    unlink(index);
    link_newest(index);
  }

  /// Takes it out of the order of use: oldest() won't name it until unpin(), which makes it the
  /// newest.
  void pin(std::uint32_t index) { unlink(index); }
  void unpin(std::uint32_t index) { link_newest(index); }

  /// The one whose last use is longest ago, of those not pinned; kNone: there is none.
  [[nodiscard]] std::uint32_t oldest() const { return oldest_; }

  /// `visit(index, node)` may erase that one. In no particular order.
  template <class Visit>
  void for_each(Visit&& visit) {
    for (std::size_t bucket = 0; bucket <= mask_; ++bucket) {
      for (std::uint32_t index = head(bucket), next; index != kNone; index = next) {
        Node& node = (*this)[index];
        next = node.chain;
        visit(index, node);
      }
    }
  }

  /// Keeps all entries; who wants fewer erases them. Linear in them when the number of buckets
  /// changes, which is left as it was when there is no memory.
  void set_capacity(std::uint32_t capacity) {
    capacity_ = std::max(capacity, 1u);
    const std::size_t count = std::bit_ceil(std::max<std::size_t>(capacity_, 16));
    if (buckets_ && count == mask_ + 1) return;
    Buckets fresh(static_cast<std::uint32_t*>(std::calloc(count, sizeof(std::uint32_t))));
    if (!fresh) {
      if (!buckets_) throw std::bad_alloc();
      return;
    }
    const Buckets old = std::exchange(buckets_, std::move(fresh));
    const std::size_t old_count = old ? mask_ + 1 : 0;
    mask_ = count - 1;
    for (std::size_t bucket = 0; bucket < old_count; ++bucket) {
      for (std::uint32_t index = old[bucket] - 1, next; index != kNone; index = next) {
        Node& node = (*this)[index];
        next = node.chain;
        std::uint32_t& to = buckets_[bucket_of(node.source)];
        node.chain = to - 1;
        to = index + 1;
      }
    }
  }

 private:
  struct Free {
    void operator()(std::uint32_t* memory) const { std::free(memory); }
  };
  using Buckets = std::unique_ptr<std::uint32_t[], Free>;
  using Chunk = std::array<Node, kChunk>;

  [[nodiscard]] std::size_t bucket_of(const Address& source) const {
    return hash_ip(source, key_) & mask_;
  }
  [[nodiscard]] std::uint32_t head(std::size_t bucket) const { return buckets_[bucket] - 1; }

  bool grow() {
    std::unique_ptr<Chunk> chunk(new (std::nothrow) Chunk);
    if (!chunk || chunks_.size() == kNone / kChunk) return false;
    const auto first = static_cast<std::uint32_t>(chunks_.size()) * kChunk;
    chunks_.push_back(std::move(chunk));
    for (std::uint32_t i = kChunk; i-- > 0;) {
      (*this)[first + i].chain = free_;
      free_ = first + i;
    }
    return true;
  }

  void link_newest(std::uint32_t index) {
    Node& node = (*this)[index];
    node.newer = kNone;
    node.older = newest_;
    (newest_ == kNone ? oldest_ : (*this)[newest_].newer) = index;
    newest_ = index;
  }

  void unlink(std::uint32_t index) {
    Node& node = (*this)[index];
    if (node.newer == kNone && newest_ != index) return;  // pinned
    (node.newer == kNone ? newest_ : (*this)[node.newer].older) = node.older;
    (node.older == kNone ? oldest_ : (*this)[node.older].newer) = node.newer;
    node.newer = node.older = kNone;
  }

  std::uint64_t key_;
  Buckets
      buckets_;  ///< index + 1 of the first in each, 0: empty; so that fresh memory is an empty map
  std::size_t mask_ = 0;
  std::uint32_t capacity_ = 0;
  std::uint32_t size_ = 0;
  std::uint32_t newest_ = kNone;
  std::uint32_t oldest_ = kNone;
  std::uint32_t free_ = kNone;
  std::vector<std::unique_ptr<Chunk>> chunks_;
};

}  // namespace poise::balance
