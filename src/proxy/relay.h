#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "io/blocks.h"
#include "io/io.h"
#include "proxy/pipes.h"

namespace poise::proxy {

/// What the receiving end of a direction should be doing. What it is doing now may still be on its
/// way out.
enum class Goal : std::uint8_t {
  receive,  ///< multishot receive into shared buffers
  park,     ///< idle: a poll that holds no memory
  stop,     ///< nothing: the other side takes no more for now
  bulk,     ///< poll and splice through a pipe
  end,      ///< nothing any more: EOF, or nobody to give it to
};

/// What is armed on the receiving end.
enum class Armed : std::uint8_t { nothing, recv, poll };

/// Received bytes that wait: a FIFO of private blocks.
struct Held {
  std::uint32_t held_head = io::kNoBlock;
  std::uint32_t held_tail = io::kNoBlock;
  std::uint32_t held_bytes = 0;
  std::uint16_t head_offset = 0;  ///< taken already of the first block
  std::uint16_t tail_length = 0;  ///< filled of the last block

  /// Copies to the end. False: no block was to be had; part may have been copied.
  bool append(io::BlockPool& blocks, std::span<const std::byte> bytes);
  /// The first stretch; empty when nothing is held. The first 16 KiB held are one stretch as long
  /// as nothing was consumed.
  [[nodiscard]] std::span<const std::byte> front(const io::BlockPool& blocks) const;
  /// So many of front() are done with.
  void consume(io::BlockPool& blocks, std::uint32_t taken);
  void drop_held(io::BlockPool& blocks);
  /// Calls `take(stretch)` for all that is held, in order, as long as it returns true.
  template <class Take>
  bool each_stretch(const io::BlockPool& blocks, Take&& take) const {
    std::size_t from = head_offset;
    for (std::uint32_t block = held_head; block != io::kNoBlock; from = 0) {
      const bool last = block == held_tail;
      const std::size_t end = last ? tail_length : io::BlockPool::kBlockBytes;
      if (!take(std::span<const std::byte>(blocks.bytes(block)).subspan(from, end - from)))
        return false;
      block = last ? io::kNoBlock : blocks.next(block);
    }
    return true;
  }
};

/// One direction of a session: what it has received, holds and has passed on. A plain value;
/// Session drives it.
struct Relay : Held {
  std::uint64_t bytes_total = 0;  ///< received from the source

  // Received in this batch, still in shared buffers, chained through Core::chain.
  std::uint16_t batch_head = io::kNoBuffer;
  std::uint16_t batch_tail = io::kNoBuffer;

  std::uint16_t quiet_buffer = io::kNoBuffer;  ///< what the last quiet send reads from
  std::uint16_t pipe = PipePool::kNone;
  std::uint32_t pipe_bytes = 0;

  Goal goal = Goal::receive;
  Armed armed = Armed::nothing;
  std::uint8_t full_run = 0;   ///< full receives in a row
  std::uint8_t small_run = 0;  ///< small splices in a row
  bool cancelling : 1 = false;
  bool sending : 1 = false;     ///< a send of held bytes, or a poll for room in bulk, is in flight
  bool eof : 1 = false;         ///< the source has finished
  bool fin_passed : 1 = false;  ///< and the sink has been told
  bool sink_dead : 1 = false;   ///< the sink takes nothing any more

  [[nodiscard]] bool has_batch() const { return batch_head != io::kNoBuffer; }
  /// Nothing received is still on its way to the sink (quiet sends apart).
  [[nodiscard]] bool empty() const {
    return held_bytes == 0 && !has_batch() && pipe_bytes == 0 && !sending;
  }
};

}  // namespace poise::proxy
