#include "proxy/relay.h"

#include <algorithm>
#include <cstring>

#include "poise/check.h"

namespace poise::proxy {

bool Held::append(io::BlockPool& blocks, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (held_tail == io::kNoBlock || tail_length == io::BlockPool::kBlockBytes) {
      const std::uint32_t block = blocks.take();
      if (block == io::kNoBlock) return false;
      if (held_tail == io::kNoBlock)
        held_head = block;
      else
        blocks.set_next(held_tail, block);
      held_tail = block;
      tail_length = 0;
    }
    const std::size_t count = std::min(bytes.size(), io::BlockPool::kBlockBytes - tail_length);
    std::memcpy(blocks.bytes(held_tail).data() + tail_length, bytes.data(), count);
    tail_length = static_cast<std::uint16_t>(tail_length + count);
    held_bytes += static_cast<std::uint32_t>(count);
    bytes = bytes.subspan(count);
  }
  return true;
}

std::span<const std::byte> Held::front(const io::BlockPool& blocks) const {
  if (held_bytes == 0) return {};
  const std::size_t end = held_head == held_tail ? tail_length : io::BlockPool::kBlockBytes;
  return std::span<const std::byte>(blocks.bytes(held_head))
      .subspan(head_offset, end - head_offset);
}

void Held::consume(io::BlockPool& blocks, std::uint32_t taken) {
  CHECK(taken <= front(blocks).size());
  held_bytes -= taken;
  head_offset = static_cast<std::uint16_t>(head_offset + taken);
  const std::size_t end = held_head == held_tail ? tail_length : io::BlockPool::kBlockBytes;
  if (head_offset < end) return;
  const std::uint32_t done = held_head;
  held_head = held_head == held_tail ? io::kNoBlock : blocks.next(done);
  if (held_head == io::kNoBlock) held_tail = io::kNoBlock;
  head_offset = 0;
  blocks.give_back(done);
}

void Held::drop_held(io::BlockPool& blocks) {
  while (held_head != io::kNoBlock) {
    const std::uint32_t block = held_head;
    held_head = block == held_tail ? io::kNoBlock : blocks.next(block);
    blocks.give_back(block);
  }
  held_tail = io::kNoBlock;
  held_bytes = 0;
  head_offset = tail_length = 0;
}

}  // namespace poise::proxy
