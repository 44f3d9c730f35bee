#include "loadgen/loop/deadlines.h"

namespace poise::loadgen {

void Deadlines::place(std::size_t at, Entry entry) {
  heap_[at] = entry;
  where_[entry.slot] = static_cast<std::uint32_t>(at);
}

void Deadlines::sift_up(std::size_t at, Entry entry) {
  while (at > 0) {
    const std::size_t parent = (at - 1) / 2;
    if (heap_[parent].deadline <= entry.deadline) break;
    place(at, heap_[parent]);
    at = parent;
  }
  place(at, entry);
}

void Deadlines::sift_down(std::size_t at, Entry entry) {
  while (true) {
    std::size_t child = 2 * at + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1].deadline < heap_[child].deadline) ++child;
    if (entry.deadline <= heap_[child].deadline) break;
    place(at, heap_[child]);
    at = child;
  }
  place(at, entry);
}

void Deadlines::set(std::uint32_t slot, Nanos deadline) {
  if (slot >= where_.size()) where_.resize(std::size_t{slot} + 1, kAbsent);
  const std::uint32_t at = where_[slot];
  if (at == kAbsent) {
    heap_.emplace_back();
    sift_up(heap_.size() - 1, {deadline, slot});
  } else if (deadline < heap_[at].deadline) {
    sift_up(at, {deadline, slot});
  } else {
    sift_down(at, {deadline, slot});
  }
}

void Deadlines::remove_at(std::size_t at) {
  where_[heap_[at].slot] = kAbsent;
  const Entry moved = heap_.back();
  heap_.pop_back();
  if (at == heap_.size()) return;
  if (at > 0 && moved.deadline < heap_[(at - 1) / 2].deadline)
    sift_up(at, moved);
  else
    sift_down(at, moved);
}

void Deadlines::clear(std::uint32_t slot) {
  if (slot < where_.size() && where_[slot] != kAbsent) remove_at(where_[slot]);
}

bool Deadlines::pop_due(Nanos now, std::uint32_t& slot) {
  if (heap_.empty() || heap_.front().deadline > now) return false;
  slot = heap_.front().slot;
  remove_at(0);
  return true;
}

}  // namespace poise::loadgen
