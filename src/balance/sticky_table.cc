#include "balance/sticky_table.h"

#include <algorithm>
#include <utility>

namespace poise::balance {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr std::uint32_t kOutlivedPerInsert = 2;

std::uint32_t to_tick(nanoseconds now) {
  return static_cast<std::uint32_t>(std::chrono::duration_cast<seconds>(now).count());
}

std::uint32_t shard_capacity(std::uint32_t entries) {
  return static_cast<std::uint32_t>((std::size_t{entries} + StickyTable::kShards - 1) /
                                    StickyTable::kShards);
}

/// Workers read the clock once a batch: one may be a second behind another.
std::uint32_t age(std::uint32_t used, std::uint32_t now) {
  return now > used ? now - used : 0;
}

}  // namespace

StickyTable::StickyTable(const Options& options, std::uint64_t hash_key) : hash_key_(hash_key) {
  for (std::size_t i = 0; i < kShards; ++i)
    shards_.emplace_back(shard_capacity(options.entries), hash_key);
  configure(options);
}

void StickyTable::configure(const Options& options) {
  entries_of_.grow(options.backends);
  const auto ttl = std::chrono::duration_cast<seconds>(options.ttl).count();
  ttl_ = static_cast<Tick>(std::clamp<std::int64_t>(ttl, 1, INT32_MAX));
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    shard.map.set_capacity(shard_capacity(options.entries));
    while (shard.map.overfull()) drop(shard, shard.map.oldest());
  }
}

bool StickyTable::outlived(const Value& value, Tick now) const {
  return age(value.used, now) >= ttl_.load(std::memory_order_relaxed);
}

void StickyTable::drop(Shard& shard, std::uint32_t index) {
  entries_of_[shard.map[index].value.backend.value].fetch_sub(1, std::memory_order_relaxed);
  entries_.fetch_sub(1, std::memory_order_relaxed);
  shard.map.erase(index);
}

/// The order of use is the order of `used`: what has outlived its time is at the old end.
std::uint32_t StickyTable::drop_outlived(Shard& shard, Tick now, std::uint32_t at_most) {
  std::uint32_t dropped = 0;
  while (dropped < at_most) {
    const std::uint32_t oldest = shard.map.oldest();
    if (oldest == shard.map.kNone || !outlived(shard.map[oldest].value, now)) break;
    drop(shard, oldest);
    ++dropped;
  }
  return dropped;
}

/// The number of the source's entry, or kNone; one that has outlived its time is taken away.
std::uint32_t StickyTable::find_live(Shard& shard, const Address& source, Tick now) {
  const std::uint32_t index = shard.map.find(source);
  if (index == shard.map.kNone || !outlived(shard.map[index].value, now)) return index;
  drop(shard, index);
  return shard.map.kNone;
}

void StickyTable::renew(Shard& shard, std::uint32_t index, Tick now) const {
  Value& value = shard.map[index].value;
  const Tick step = std::min<Tick>(ttl_.load(std::memory_order_relaxed) / 16,
                                   static_cast<Tick>(kRenewal.count()));
  if (age(value.used, now) <= step) return;
  value.used = now;
  shard.map.touch(index);
  note(shard, shard.map[index].source);
}

/// For a source that has none; false: no memory for it.
bool StickyTable::add(Shard& shard, const Address& source, const Value& value) {
  if (shard.map.full()) drop(shard, shard.map.oldest());
  const std::uint32_t index = shard.map.add(source);
  if (index == shard.map.kNone) return false;
  shard.map[index].value = value;
  entries_of_[value.backend.value].fetch_add(1, std::memory_order_relaxed);
  entries_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void StickyTable::put(Shard& shard, const Address& source, BackendId backend, Tick now) {
  drop_outlived(shard, now, kOutlivedPerInsert);
  if (add(shard, source, {backend, now})) note(shard, source);
}

std::optional<BackendId> StickyTable::find(const Address& source, Time now) {
  Shard& shard = shard_of(source);
  const std::lock_guard lock(shard.mutex);
  const std::uint32_t index = find_live(shard, source, to_tick(now));
  if (index == shard.map.kNone) return std::nullopt;
  renew(shard, index, to_tick(now));
  return shard.map[index].value.backend;
}

std::optional<BackendId> StickyTable::look(const Address& source, Time now) const {
  Shard& shard = shard_of(source);
  const std::lock_guard lock(shard.mutex);
  const std::uint32_t index = shard.map.find(source);
  if (index == shard.map.kNone || outlived(shard.map[index].value, to_tick(now)))
    return std::nullopt;
  return shard.map[index].value.backend;
}

Placement StickyTable::insert_if_absent(const Address& source, BackendId backend, Time now) {
  Shard& shard = shard_of(source);
  const std::lock_guard lock(shard.mutex);
  const std::uint32_t index = find_live(shard, source, to_tick(now));
  if (index != shard.map.kNone) {
    renew(shard, index, to_tick(now));
    return {shard.map[index].value.backend, false};
  }
  put(shard, source, backend, to_tick(now));
  return {backend, true};
}

Placement StickyTable::move(const Address& source, BackendId from, BackendId to, Time now) {
  Shard& shard = shard_of(source);
  const std::lock_guard lock(shard.mutex);
  const std::uint32_t index = find_live(shard, source, to_tick(now));
  if (index == shard.map.kNone) {
    put(shard, source, to, to_tick(now));
    return {to, true};
  }
  renew(shard, index, to_tick(now));
  Value& value = shard.map[index].value;
  if (value.backend != from) return {value.backend, false};
  entries_of_[from.value].fetch_sub(1, std::memory_order_relaxed);
  entries_of_[to.value].fetch_add(1, std::memory_order_relaxed);
  value.backend = to;
  note(shard, source);
  return {to, true};
}

// ---- for the other box of a pair

void StickyTable::note(Shard& shard, const Address& source) const {
  if (!remember_changes_.load(std::memory_order_relaxed) || shard.all_changed) return;
  if (shard.changed.size() < kChangedMax) {
    shard.changed.push_back(source);
    return;
  }
  shard.all_changed = true;
  shard.changed.clear();
}

void StickyTable::remember_changes(bool on) {
  remember_changes_.store(on, std::memory_order_relaxed);
}

void StickyTable::all_changed() {
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    shard.all_changed = true;
    shard.changed.clear();
  }
}

void StickyTable::collect(std::size_t number, Time now, std::vector<StickyEntry>& out) {
  Shard& shard = shards_[number];
  out.clear();
  std::unique_lock lock(shard.mutex);
  if (std::exchange(shard.all_changed, false)) {
    lock.unlock();
    return copy(shard, now, out);
  }
  for (const Address& source : std::exchange(shard.changed, {})) {
    const std::uint32_t index = shard.map.find(source);
    if (index == shard.map.kNone) continue;
    const Value& value = shard.map[index].value;
    if (!outlived(value, to_tick(now)))
      out.push_back({source, value.backend, seconds(age(value.used, to_tick(now)))});
  }
}

void StickyTable::adopt(const StickyEntry& entry, Time now) {
  const Tick tick = to_tick(now);
  const auto idle = static_cast<Tick>(std::clamp<std::int64_t>(entry.idle.count(), 0, tick));
  Shard& shard = shard_of(entry.source);
  const std::lock_guard lock(shard.mutex);
  if (const std::uint32_t index = shard.map.find(entry.source); index != shard.map.kNone) {
    if (shard.map[index].value.used >= tick - idle) return;
    drop(shard, index);
  }
  add(shard, entry.source, {entry.backend, tick - idle});
}

template <class Condition>
std::uint32_t StickyTable::erase_if(Condition&& condition) {
  std::uint32_t erased = 0;
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    shard.map.for_each([&](std::uint32_t index, const auto& node) {
      if (!condition(node.source, node.value.backend)) return;
      drop(shard, index);
      ++erased;
    });
  }
  return erased;
}

std::uint32_t StickyTable::erase_backend(BackendId backend) {
  return erase_if([&](const Address&, BackendId named) { return named == backend; });
}

std::uint32_t StickyTable::erase_network(const Network& network) {
  return erase_if([&](const Address& source, BackendId) { return network.contains(source); });
}

std::uint32_t StickyTable::erase_all() {
  return erase_if([](const Address&, BackendId) { return true; });
}

std::uint32_t StickyTable::expire(Time now) {
  std::uint32_t dropped = 0;
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    dropped += drop_outlived(shard, to_tick(now), UINT32_MAX);
  }
  return dropped;
}

bool StickyTable::may_take(BackendId backend, double max_share) const {
  const std::uint32_t all = entries();
  if (max_share <= 0 || all < kShareFrom) return true;
  return entries_of(backend) + 1.0 <= max_share * (all + 1.0);
}

void StickyTable::copy(Shard& shard, Time now, std::vector<StickyEntry>& copies) const {
  copies.clear();
  const std::lock_guard lock(shard.mutex);
  copies.reserve(shard.map.size());
  shard.map.for_each([&](std::uint32_t, const auto& node) {
    if (outlived(node.value, to_tick(now))) return;
    copies.push_back(
        {node.source, node.value.backend, seconds(age(node.value.used, to_tick(now)))});
  });
}

}  // namespace poise::balance
