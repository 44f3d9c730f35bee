#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "balance/lru_map.h"
#include "poise/address.h"
#include "poise/ids.h"
#include "poise/registry.h"

/// Which backend a source's sessions go to: the memory of a sticky pool. Lives in a registry, so it
/// survives reloads; shared by all workers. Pure: time is a value, nanoseconds of a steady clock.
namespace poise::balance {

struct StickyEntry {
  Address source;
  BackendId backend;
  std::chrono::seconds idle{};  ///< since a session of that source last asked
};

/// Where a source's sessions go now, and whether this call made it so.
struct Placement {
  BackendId backend;
  bool changed = false;
};

/// Sources are compared as given: cut them to the pool's prefix first (masked()). Any thread may
/// call anything; a call holds the mutex of one shard (of kShards) for some hundred nanoseconds at
/// most, and those that go through the table take one shard after the other.
///
/// Bounded: `entries`, rounded up to a multiple of kShards. A full shard forgets the source that
/// asked longest ago; by chance of the hash some shards fill a little before others.
/// An entry not asked for within the time to live counts as absent. Being asked renews it, with an
/// error of kRenewal or ttl/16, whichever is less: most lookups write nothing but the mutex.
class StickyTable {
 public:
  static constexpr std::size_t kShards = 16;
  static constexpr std::chrono::seconds kRenewal{10};
  using Time = std::chrono::nanoseconds;

  struct Options {
    std::uint32_t entries = 100000;
    std::chrono::milliseconds ttl{};  ///< under a second counts as one
    std::uint32_t backends = 0;       ///< all BackendIds handed out so far lie below this
  };

  /// `hash_key`: random, drawn once a process; see hash_ip().
  StickyTable(const Options& options, std::uint64_t hash_key);

  /// The backend of this source, if it has one.
  [[nodiscard]] std::optional<BackendId> find(const Address& source, Time now);

  /// The same for an operator's eyes: nothing is renewed or taken away.
  [[nodiscard]] std::optional<BackendId> look(const Address& source, Time now) const;

  /// Remembers `backend` for a source that has none. Else changes nothing and says whom the source
  /// has: of two workers that picked for it at the same time the second follows the first. Without
  /// memory for it the answer is as if it had worked.
  [[nodiscard]] Placement insert_if_absent(const Address& source, BackendId backend, Time now);

  /// The source's backend can't serve it: from now on `to`, if it is still `from` or has none.
  /// Else somebody was quicker, and the answer says whom the source has.
  Placement move(const Address& source, BackendId from, BackendId to, Time now);

  /// Each returns how many it took away. A network takes those whose source as stored (cut to the
  /// prefix) lies in it.
  std::uint32_t erase_backend(BackendId backend);
  std::uint32_t erase_network(const Network& network);
  std::uint32_t erase_all();

  /// Takes away what has outlived its time; for a timer of control's, some times a minute.
  /// Inserting does it too, a few at a time.
  std::uint32_t expire(Time now);

  // --- for the other box of a pair

  /// From now on changes are remembered for collect(), each shard's last kChangedMax; beyond those
  /// the whole shard counts as changed.
  void remember_changes(bool on);
  static constexpr std::size_t kChangedMax = 1024;
  /// Everything counts as changed: for a peer that knows nothing.
  void all_changed();
  /// The entries of a shard that are new, moved or renewed since the last call. `out` is emptied
  /// first.
  void collect(std::size_t shard, Time now, std::vector<StickyEntry>& out);
  /// The peer's entry; the one used later wins. Not a change of ours.
  void adopt(const StickyEntry& entry, Time now);

  /// After a reload. With fewer entries those go that asked longest ago.
  void configure(const Options& options);

  /// Counted are also those that have outlived their time and were not taken away yet.
  [[nodiscard]] std::uint32_t entries() const { return entries_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint32_t entries_of(BackendId backend) const {
    return entries_of_[backend.value].load(std::memory_order_relaxed);
  }

  /// Whether a new source may be given to `backend` when it is to hold at most this share of all
  /// entries (0: any). Until there are kShareFrom entries all may. Approximate while workers
  /// insert.
  [[nodiscard]] bool may_take(BackendId backend, double max_share) const;
  static constexpr std::uint32_t kShareFrom = 100;

  /// Calls `visit(const StickyEntry&)` for each, on copies made a shard at a time, with no mutex
  /// held.
  template <class Visit>
  void for_each(Time now, Visit&& visit) const {
    std::vector<StickyEntry> copies;
    for (Shard& shard : shards_) {
      copy(shard, now, copies);
      for (const StickyEntry& entry : copies) visit(entry);
    }
  }

 private:
  using Tick = std::uint32_t;  ///< seconds

  struct Value {
    BackendId backend;
    Tick used = 0;
  };
  struct alignas(64) Shard {
    Shard(std::uint32_t capacity, std::uint64_t key) : map(capacity, key) {}
    std::mutex mutex;
    LruMap<Value> map;
    std::vector<Address> changed;
    bool all_changed = false;
  };

  Shard& shard_of(const Address& source) const {
    return shards_[hash_ip(source, ~hash_key_) % kShards];
  }
  [[nodiscard]] bool outlived(const Value& value, Tick now) const;
  std::uint32_t find_live(Shard& shard, const Address& source, Tick now);
  void note(Shard& shard, const Address& source) const;
  bool add(Shard& shard, const Address& source, const Value& value);
  void put(Shard& shard, const Address& source, BackendId backend, Tick now);
  void renew(Shard& shard, std::uint32_t index, Tick now) const;
  void drop(Shard& shard, std::uint32_t index);
  std::uint32_t drop_outlived(Shard& shard, Tick now, std::uint32_t at_most);
  void copy(Shard& shard, Time now, std::vector<StickyEntry>& copies) const;
  template <class Condition>
  std::uint32_t erase_if(Condition&& condition);

  const std::uint64_t hash_key_;
  std::atomic<Tick> ttl_{1};
  std::atomic<bool> remember_changes_{false};
  std::atomic<std::uint32_t> entries_{0};
  Registry<std::atomic<std::uint32_t>> entries_of_;
  mutable std::deque<Shard> shards_;
};

}  // namespace poise::balance
