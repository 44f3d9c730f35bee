#include "io/timers.h"

#include <algorithm>
#include <bit>

#include "poise/check.h"

namespace poise::io {

void TimerWheel::set(std::uint32_t slot, Tick tick) {
  CHECK(slot < slots_max_);
  if (slot >= nodes_.size()) nodes_.resize(slot + 1);
  unlink(slot);
  tick = std::max(tick, now_ + 1);
  // On level L a bucket is 8^L ticks wide; a deadline at least eight buckets away has its bucket's
  // start in the future.
  const Tick away = tick - now_;
  unsigned level = 0;
  while (level + 1 < kLevels && away >= (kBuckets << (level * kLevelShift))) ++level;
  const unsigned shift = level * kLevelShift;
  Tick bucket_tick = tick >> shift;
  if (away >= (kBuckets << shift))
    bucket_tick = (now_ >> shift) + kBuckets - 1;  // beyond the wheel: ask again then
  const unsigned bucket = bucket_tick % kBuckets;
  Node& node = nodes_[slot];
  node.where = static_cast<std::uint16_t>(level * kBuckets + bucket);
  node.previous = kNone;
  node.next = heads_[level][bucket];
  if (node.next != kNone) nodes_[node.next].previous = slot;
  heads_[level][bucket] = slot;
  occupied_[level] |= std::uint64_t{1} << bucket;
}

void TimerWheel::remove(std::uint32_t slot) {
  if (slot < nodes_.size()) unlink(slot);
}

TimerWheel::Tick TimerWheel::next() const {
  Tick earliest = kNever;
  for (unsigned level = 0; level < kLevels; ++level) {
    if (occupied_[level] == 0) continue;
    const unsigned shift = level * kLevelShift;
    const Tick following = (now_ >> shift) + 1;
    const int skip =
        std::countr_zero(std::rotr(occupied_[level], static_cast<int>(following % kBuckets)));
    earliest = std::min(earliest, (following + static_cast<Tick>(skip)) << shift);
  }
  return earliest;
}

std::uint64_t TimerWheel::range_mask(unsigned first, unsigned count) {
  const std::uint64_t ones =
      count >= kBuckets ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
  return std::rotl(ones, static_cast<int>(first));
}

void TimerWheel::collect(unsigned level, unsigned bucket) {
  std::uint32_t slot = heads_[level][bucket];
  heads_[level][bucket] = kNone;
  occupied_[level] &= ~(std::uint64_t{1} << bucket);
  while (slot != kNone) {
    Node& node = nodes_[slot];
    const std::uint32_t following = node.next;
    node = Node{.where = kDue};
    due_.push_back(slot);
    slot = following;
  }
}

void TimerWheel::unlink(std::uint32_t slot) {
  Node& node = nodes_[slot];
  if (node.where == kNowhere) return;
  if (node.where != kDue) {
    const unsigned level = node.where / kBuckets, bucket = node.where % kBuckets;
    if (node.previous == kNone)
      heads_[level][bucket] = node.next;
    else
      nodes_[node.previous].next = node.next;
    if (node.next != kNone) nodes_[node.next].previous = node.previous;
    if (heads_[level][bucket] == kNone) occupied_[level] &= ~(std::uint64_t{1} << bucket);
  }
  node = Node{};
}

}  // namespace poise::io
