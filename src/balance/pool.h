#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "balance/brakes.h"
#include "balance/rate.h"
#include "poise/address.h"
#include "poise/config.h"
#include "poise/ids.h"

/// Choosing a backend. Pure: no I/O, no clock, no thread; what changes between picks is in the
/// registries (BackendState, PoolState) that the caller owns and that outlive every snapshot.
namespace poise::balance {

/// Of one backend, for the life of the process; shared by all workers. On a cache line of its own.
struct alignas(64) BackendState {
  std::atomic<std::uint32_t> sessions{0};  ///< reserved places, never above max_sessions
  Brakes brakes;
  RateLimiter rate;  ///< of Member::pace
  /// When it last gave a client a good greeting, in ms of the workers' clock: a probe need not ask
  /// again so soon.
  std::atomic<std::int64_t> good_greeting_ms{0};
};

/// Of one pool, for the life of the process; shared by all workers.
struct alignas(64) PoolState {
  std::atomic<std::uint64_t> cursor{
      0};  ///< first picks: round robin's position, and what rotates ties
  std::atomic<std::uint64_t> spill{0};  ///< retries, and picks whose turn fell on a full backend
  std::atomic<std::uint32_t> active_tier{
      0};  ///< the tier in use; only control writes it (Pool's constructor)
};

/// One backend as a snapshot sees it.
struct Member {
  BackendId id{};
  Address address{};
  std::uint32_t weight = 1;        ///< 0: no new sessions
  std::uint32_t max_sessions = 0;  ///< 0: no limit
  Pace pace{};                     ///< of new sessions; a backend that has had its share is full
  std::uint32_t tier = 0;
  bool up = true;       ///< health allows new sessions
  bool enabled = true;  ///< the operator allows new sessions
  BackendState* state = nullptr;

  bool operator==(const Member&) const = default;
};

struct PoolSpec {
  config::Scheduler scheduler = config::Scheduler::round_robin;
  std::vector<config::Scheduler> tier_schedulers{};  ///< of tiers 1, 2, ...: see config::Pool
  config::Overflow overflow = config::Overflow::queue;
  config::WhenAllDown when_all_down = config::WhenAllDown::attempt;
  unsigned min_up = 1;  ///< 0 counts as 1; a tier with fewer members than that needs all of them
  bool preempt = true;
  std::vector<Member> members{};  ///< at most kMembersMax
  PoolState* state = nullptr;

  bool operator==(const PoolSpec&) const = default;
};

/// Tables hold 16-bit indices.
inline constexpr std::size_t kMembersMax = 65535;

struct PickRequest {
  Address source{};  ///< the client, already masked to what counts as one source; for source_hash
                     ///< and maglev
  std::uint64_t random = 0;            ///< for random_two; the caller's generator
  std::span<const BackendId> tried{};  ///< not again for this session
  std::chrono::nanoseconds now{};      ///< for brakes and rates; the clock all workers share
  BackendId preferred{};               ///< taken if it is up, enabled, not braked and has a place
};

enum class PickResult : std::uint8_t {
  chosen,      ///< a place and a turn at its brakes are taken: give them back with release() and
               ///< Brakes::settled()
  full,        ///< every candidate is at max_sessions, or has had its connect_rate
  no_backend,  ///< nobody left to try
};

struct Pick {
  PickResult result = PickResult::no_backend;
  const Member* member = nullptr;  ///< lives as long as the Pool
};

struct Search;

/// An immutable pool: the tables of its scheduler are built once, in the constructor (control
/// thread); pick() is called by any number of workers at once.
///
/// Candidates come in stages, and a stage is left only when each of its members has been tried by
/// this session, is braked, or (with overflow to the next tier) is full: the tier in use; the other
/// tiers' up members, those with min_up first; then those whose brakes were on; and, unless
/// when_all_down says refuse, the members that are down but enabled, tier by tier.
class Pool {
 public:
  /// Decides the tier in use and leaves it in `spec.state`: build a Pool only to publish it.
  explicit Pool(PoolSpec spec);
  Pool(Pool&&) noexcept;
  Pool& operator=(Pool&&) noexcept;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool();

  /// Chooses and reserves in one step: max_sessions is exact however many workers pick at once.
  /// Allocates nothing and takes no lock. Constant time for round_robin, maglev and (up to a binary
  /// search) random_two when the first choice has a place; else, and for the other schedulers,
  /// linear in the number of members.
  [[nodiscard]] Pick pick(const PickRequest& request) const;

  /// Gives a reserved place back.
  static void release(BackendState& state);

  [[nodiscard]] std::span<const Member> members() const { return spec_.members; }
  /// Null when it is not of this pool.
  [[nodiscard]] const Member* find(BackendId id) const;

  /// The tier new sessions go to first, as decided when this snapshot was built.
  [[nodiscard]] std::uint32_t active_tier() const { return active_tier_; }

 private:
  struct Stage;

  const Member* pick_from(std::size_t first, std::size_t last, Search& search) const;

  PoolSpec spec_;
  std::vector<std::pair<BackendId, std::uint16_t>> by_id_;  ///< sorted
  std::vector<Stage> stages_;
  std::size_t stages_up_ = 0;  ///< the first of these hold up members, the rest down ones
  std::uint32_t active_tier_ = 0;
};

}  // namespace poise::balance
