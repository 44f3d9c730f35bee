#include "balance/waiters.h"

#include <algorithm>

namespace poise::balance {

WaiterTicket Waiters::enqueue(const Waiter& waiter, std::uint32_t length_max) {
  const std::lock_guard lock(mutex_);
  if (length_.load(std::memory_order_relaxed) >= length_max) return {};
  if (free_ == kNone) {
    free_ = static_cast<std::uint32_t>(nodes_.size());
    nodes_.emplace_back();
  }
  const std::uint32_t index = free_;
  Node& node = nodes_[index];
  free_ = node.after;
  if (++serial_ == 0) ++serial_;
  node = {waiter, serial_, last_, kNone};
  (last_ == kNone ? first_ : nodes_[last_].after) = index;
  last_ = index;
  length_.fetch_add(1);
  joined_.fetch_add(1);
  return {std::uint64_t{index} << 32 | node.serial};
}

void Waiters::remove(std::uint32_t index) {
  Node& node = nodes_[index];
  (node.before == kNone ? first_ : nodes_[node.before].after) = node.after;
  (node.after == kNone ? last_ : nodes_[node.after].before) = node.before;
  node.serial = 0;
  node.after = free_;
  free_ = index;
  length_.fetch_sub(1);
}

bool Waiters::cancel(WaiterTicket ticket) {
  const auto index = static_cast<std::uint32_t>(ticket.value >> 32);
  const auto serial = static_cast<std::uint32_t>(ticket.value);
  const std::lock_guard lock(mutex_);
  if (serial == 0 || index >= nodes_.size() || nodes_[index].serial != serial) return false;
  remove(index);
  return true;
}

std::optional<Waiter> Waiters::take_next(BackendId place) {
  if (!anyone()) return std::nullopt;
  const std::lock_guard lock(mutex_);
  for (std::uint32_t index = first_; index != kNone; index = nodes_[index].after) {
    if ((nodes_[index].waiter.avoids & avoid(place)) != 0) continue;
    const Waiter waiter = nodes_[index].waiter;
    remove(index);
    return waiter;
  }
  return std::nullopt;
}

Waiters::Time Waiters::longest_wait(Time now) const {
  if (!anyone()) return Time{0};
  const std::lock_guard lock(mutex_);
  if (first_ == kNone) return Time{0};
  return std::max(Time{0}, now - nodes_[first_].waiter.since);
}

}  // namespace poise::balance
