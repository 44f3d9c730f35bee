#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "poise/check.h"

namespace poise::log {

/// A byte ring for one producer thread and one consumer thread: records of any length, each in one
/// piece, in order. Nothing in it blocks or allocates. The memory is allocated once and only
/// touched as far as it is used.
///
/// A record is an 8-byte header {size, tag} and its bytes, rounded up to 8. Where the piece up to
/// the end of the memory is too short for the next record it holds a filler, and the record begins
/// at the start of the memory.
class Ring {
 public:
  struct Item {
    std::uint32_t tag = 0;            ///< the producer's, below kFiller
    const std::byte* data = nullptr;  ///< null: the ring is empty
  };

  /// `capacity_bytes` is rounded up to a power of two.
  explicit Ring(std::size_t capacity_bytes)
      : capacity_(std::bit_ceil(capacity_bytes)),
        memory_(std::make_unique_for_overwrite<std::uint64_t[]>(capacity_ / 8)) {
    CHECK(capacity_bytes >= 64);
  }

  [[nodiscard]] std::size_t capacity_bytes() const { return capacity_; }

  // --- producer

  /// Room for a record of `size` bytes, 8-aligned, or null when there is none. Not seen by the
  /// consumer before publish(); at most one reserve() between two of those.
  [[nodiscard]] std::byte* reserve(std::uint32_t tag, std::size_t size) noexcept {
    const std::uint64_t length = sizeof(Header) + ((size + 7) & ~std::size_t{7});
    const std::uint64_t to_end = capacity_ - (head_ & (capacity_ - 1));
    const std::uint64_t needed = length <= to_end ? length : to_end + length;
    if (head_ + needed - tail_seen_ > capacity_) {
      tail_seen_ = tail_published_.load(std::memory_order_acquire);
      if (head_ + needed - tail_seen_ > capacity_) return nullptr;
    }
    if (length > to_end) {
      put_header(head_, {static_cast<std::uint32_t>(to_end), kFiller});
      head_ += to_end;
    }
    put_header(head_, {static_cast<std::uint32_t>(length), tag});
    std::byte* const room = at(head_) + sizeof(Header);
    head_ += length;
    return room;
  }

  /// Lets the consumer see what was reserved. Sequentially consistent, as half of a handshake: the
  /// producer publishes, then looks whether the consumer sleeps; the consumer says it sleeps, then
  /// looks whether there is something.
  void publish() noexcept { head_published_.store(head_, std::memory_order_seq_cst); }

  /// More than half of the memory holds records not consumed yet.
  [[nodiscard]] bool more_than_half_full() noexcept {
    if (head_ - tail_seen_ <= capacity_ / 2) return false;
    tail_seen_ = tail_published_.load(std::memory_order_acquire);
    return head_ - tail_seen_ > capacity_ / 2;
  }

  /// The consumer has everything. Any thread, for tests and benchmarks.
  [[nodiscard]] bool empty() const noexcept {
    return head_published_.load(std::memory_order_acquire) ==
           tail_published_.load(std::memory_order_acquire);
  }

  // --- consumer

  /// Takes note of what has been published; front() goes no further, so a busy producer can't hold
  /// the consumer.
  void refresh() noexcept { head_seen_ = head_published_.load(std::memory_order_seq_cst); }

  /// The oldest record, valid until pop().
  [[nodiscard]] Item front() noexcept {
    while (tail_ != head_seen_) {
      const Header header = header_at(tail_);
      if (header.tag != kFiller) return {header.tag, at(tail_) + sizeof(Header)};
      tail_ += header.length;
    }
    return {};
  }

  /// Gives front()'s room back.
  void pop() noexcept {
    tail_ += header_at(tail_).length;
    tail_published_.store(tail_, std::memory_order_release);
  }

  /// Something is published that was not consumed.
  [[nodiscard]] bool waiting() const noexcept {
    return head_published_.load(std::memory_order_seq_cst) != tail_;
  }

  /// What more_than_half_full() is to the producer.
  [[nodiscard]] bool waiting_more_than_half() const noexcept {
    return head_published_.load(std::memory_order_seq_cst) - tail_ > capacity_ / 2;
  }

 private:
  struct Header {
    std::uint32_t length;  ///< of header and record, a multiple of 8
    std::uint32_t tag;
  };
  static_assert(sizeof(Header) == 8);
  static constexpr std::uint32_t kFiller = UINT32_MAX;

  [[nodiscard]] std::byte* at(std::uint64_t position) const noexcept {
    return reinterpret_cast<std::byte*>(memory_.get()) + (position & (capacity_ - 1));
  }
  void put_header(std::uint64_t position, Header header) noexcept {
    std::memcpy(at(position), &header, sizeof header);
  }
  [[nodiscard]] Header header_at(std::uint64_t position) const noexcept {
    Header header;
    std::memcpy(&header, at(position), sizeof header);
    return header;
  }

  const std::uint64_t capacity_;
  const std::unique_ptr<std::uint64_t[]> memory_;

  // Positions only grow; the place in memory is the position modulo the capacity. Each thread's own
  // on its own cache line, with its last view of the other's, so that the lines travel between CPUs
  // seldom.
  alignas(64) std::uint64_t head_ = 0;
  std::uint64_t tail_seen_ = 0;
  alignas(64) std::atomic<std::uint64_t> head_published_{0};
  alignas(64) std::uint64_t tail_ = 0;
  std::uint64_t head_seen_ = 0;
  alignas(64) std::atomic<std::uint64_t> tail_published_{0};
};

}  // namespace poise::log
