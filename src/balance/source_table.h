#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "balance/lru_map.h"
#include "balance/rate.h"
#include "poise/address.h"
#include "poise/config.h"

/// How many sessions each source has and how fast it opens new ones: the limits per source of a
/// service. Lives in a registry, so it survives reloads; shared by all workers. Pure.
namespace poise::balance {

enum class SourceVerdict : std::uint8_t { ok, too_many_sessions, too_fast };

struct SourceLimits {
  std::uint32_t sessions = 0;  ///< at the same time; 0: no limit
  Pace rate;                   ///< of new ones; rate.h says what a rate is
  config::LimitMode mode = config::LimitMode::enforce;
};

/// A counted session's own: gives it back to whom it was counted for, whatever a reload has done to
/// prefixes since.
struct SourceTicket {
  std::uint32_t value = UINT32_MAX;
  explicit operator bool() const { return value != UINT32_MAX; }
};

struct Admission {
  SourceVerdict verdict = SourceVerdict::ok;
  SourceTicket ticket;  ///< leave() with it when the session ends
};

struct SourceRow {
  Address source;
  std::uint32_t sessions = 0;
  std::uint32_t refused = 0;  ///< since it is in the table; stops at its largest value
};

/// What admit() would find of a source.
struct SourceLook {
  std::uint32_t sessions = 0;
  bool too_fast = false;
};

/// Sources are compared as given: cut them to the service's prefix first (masked()), and leave
/// those on the `except` list out. Any thread may call anything; a call holds the mutex of one
/// shard (of kShards) for some hundred nanoseconds at most, top() one after the other.
///
/// Bounded under a flood: a source with sessions is always kept (there are no more of those than
/// sessions); of the others at most `entries`, sessions' sources included, rounded up to a multiple
/// of kShards, and the one that came longest ago goes first. Forgetting such a source only fills
/// its bucket: a limit of sessions is exact at all times.
class SourceTable {
 public:
  static constexpr std::size_t kShards = 16;
  using Time = std::chrono::nanoseconds;

  /// `hash_key`: random, drawn once a process; see hash_ip().
  SourceTable(std::uint32_t entries, std::uint64_t hash_key);

  /// Counts a new session of `source`, or says why not: first its sessions, then its rate. A
  /// refused one takes no token and has no ticket. With mode `log` it is counted all the same and
  /// the verdict is what would have been said. Without memory for another source: ok, not counted.
  [[nodiscard]] Admission admit(const Address& source, Time now, const SourceLimits& limits);

  /// For an operator's eyes: nothing is counted.
  [[nodiscard]] SourceLook look(const Address& source, Time now, const Pace& rate) const;

  /// The session has ended. An empty ticket is ignored.
  void leave(SourceTicket ticket);

  /// After a reload.
  void set_entries(std::uint32_t entries);

  [[nodiscard]] std::uint32_t entries() const { return entries_.load(std::memory_order_relaxed); }

  /// The `count` sources with the most sessions, then the most refusals; for display.
  [[nodiscard]] std::vector<SourceRow> top(std::size_t count) const;

 private:
  struct Value {
    std::int64_t full_at = INT64_MIN / 2;  ///< of its bucket
    std::uint32_t sessions = 0;            ///< above 0: pinned
    std::uint32_t refused = 0;
  };
  struct alignas(64) Shard {
    Shard(std::uint32_t capacity, std::uint64_t key) : map(capacity, key) {}
    std::mutex mutex;
    LruMap<Value> map;
  };

  std::uint32_t find_or_add(Shard& shard, const Address& source);
  void shrink(Shard& shard);

  const std::uint64_t hash_key_;
  std::atomic<std::uint32_t> entries_{0};
  mutable std::deque<Shard> shards_;
};

}  // namespace poise::balance
