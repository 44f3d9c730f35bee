#include "balance/source_table.h"

#include <algorithm>
#include <tuple>

#include "poise/check.h"

namespace poise::balance {
namespace {

std::uint32_t shard_capacity(std::uint32_t entries) {
  return static_cast<std::uint32_t>((std::size_t{entries} + SourceTable::kShards - 1) /
                                    SourceTable::kShards);
}

bool comes_before(const SourceRow& one, const SourceRow& other) {
  return std::tie(other.sessions, other.refused, one.source) <
         std::tie(one.sessions, one.refused, other.source);
}

}  // namespace

SourceTable::SourceTable(std::uint32_t entries, std::uint64_t hash_key) : hash_key_(hash_key) {
  for (std::size_t i = 0; i < kShards; ++i) shards_.emplace_back(shard_capacity(entries), hash_key);
}

void SourceTable::set_entries(std::uint32_t entries) {
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    shard.map.set_capacity(shard_capacity(entries));
    shrink(shard);
  }
}

void SourceTable::shrink(Shard& shard) {
  while (shard.map.overfull() && shard.map.oldest() != shard.map.kNone) {
    shard.map.erase(shard.map.oldest());
    entries_.fetch_sub(1, std::memory_order_relaxed);
  }
}

std::uint32_t SourceTable::find_or_add(Shard& shard, const Address& source) {
  std::uint32_t index = shard.map.find(source);
  if (index != shard.map.kNone) {
    if (shard.map[index].value.sessions == 0) shard.map.touch(index);
    return index;
  }
  index = shard.map.add(source);
  if (index == shard.map.kNone) return index;
  entries_.fetch_add(1, std::memory_order_relaxed);
  shard.map.pin(index);  // not this one
  shrink(shard);
  shard.map.unpin(index);
  return index;
}

Admission SourceTable::admit(const Address& source, Time now, const SourceLimits& limits) {
  const std::size_t number = hash_ip(source, ~hash_key_) % kShards;
  Shard& shard = shards_[number];
  const std::lock_guard lock(shard.mutex);
  const std::uint32_t index = find_or_add(shard, source);
  if (index == shard.map.kNone) return {};

  Value& value = shard.map[index].value;
  Admission admission;
  if (limits.sessions != 0 && value.sessions >= limits.sessions) {
    admission.verdict = SourceVerdict::too_many_sessions;
  } else if (limits.rate.interval != 0) {
    if (const auto full_at = limits.rate.take(value.full_at, now.count()))
      value.full_at = *full_at;
    else
      admission.verdict = SourceVerdict::too_fast;
  }
  if (admission.verdict != SourceVerdict::ok) {
    value.refused += value.refused != UINT32_MAX ? 1 : 0;
    if (limits.mode == config::LimitMode::enforce) return admission;
  }
  if (value.sessions++ == 0) shard.map.pin(index);
  admission.ticket.value = static_cast<std::uint32_t>(index * kShards + number);
  return admission;
}

SourceLook SourceTable::look(const Address& source, Time now, const Pace& rate) const {
  Shard& shard = shards_[hash_ip(source, ~hash_key_) % kShards];
  const std::lock_guard lock(shard.mutex);
  const std::uint32_t index = shard.map.find(source);
  if (index == shard.map.kNone) return {};
  const Value& value = shard.map[index].value;
  return {.sessions = value.sessions,
          .too_fast = rate.interval != 0 && !rate.take(value.full_at, now.count())};
}

void SourceTable::leave(SourceTicket ticket) {
  if (!ticket) return;
  Shard& shard = shards_[ticket.value % kShards];
  const std::uint32_t index = ticket.value / kShards;
  const std::lock_guard lock(shard.mutex);
  Value& value = shard.map[index].value;
  CHECK(value.sessions > 0);
  if (--value.sessions > 0) return;
  shard.map.unpin(index);
  shrink(shard);
}

std::vector<SourceRow> SourceTable::top(std::size_t count) const {
  std::vector<SourceRow> rows;
  for (Shard& shard : shards_) {
    {
      const std::lock_guard lock(shard.mutex);
      shard.map.for_each([&](std::uint32_t, const auto& node) {
        rows.push_back({node.source, node.value.sessions, node.value.refused});
      });
    }
    if (rows.size() <= count) continue;
    std::nth_element(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(count), rows.end(),
                     comes_before);
    rows.resize(count);
  }
  std::sort(rows.begin(), rows.end(), comes_before);
  return rows;
}

}  // namespace poise::balance
