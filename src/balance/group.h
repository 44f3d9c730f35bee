#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "balance/hash.h"
#include "balance/pool.h"

namespace poise::balance {

/// Members that compete with each other: one tier's up ones, or one tier's down ones. Every weight
/// is above 0; at least one member; in the order of the configuration.
using Group = std::vector<const Member*>;

/// Takes a place unless the backend is full. Sequentially consistent, like release(): a session
/// that found the pool full and joins the waiters, and a worker that frees a place and looks for
/// waiters, cannot miss each other.
[[nodiscard]] inline bool reserve(const Member& member) {
  std::atomic<std::uint32_t>& sessions = member.state->sessions;
  if (member.max_sessions == 0) {
    sessions.fetch_add(1);
    return true;
  }
  std::uint32_t now = sessions.load();
  while (now < member.max_sessions) {
    if (sessions.compare_exchange_weak(now, now + 1)) return true;
  }
  return false;
}

/// Sessions per weight, compared exactly.
struct Load {
  std::uint32_t sessions;
  std::uint32_t weight;

  explicit Load(const Member& member)
      : sessions(member.state->sessions.load(std::memory_order_relaxed)), weight(member.weight) {}

  /// a/b < c/d as a*d < c*b: 32 by 32 bits fit 64.
  friend bool operator<(const Load& a, const Load& b) {
    return std::uint64_t{a.sessions} * b.weight < std::uint64_t{b.sessions} * a.weight;
  }
};

/// One call of Pool::pick(): what is asked for, and what was met on the way.
struct Search {
  const PickRequest& request;
  PoolState& state;
  bool first;               ///< nothing tried yet, and still in the first stage
  bool force = false;       ///< take members although their brakes are on
  bool met_full = false;    ///< somebody not tried yet had no place
  bool met_braked = false;  ///< somebody not tried yet had a brake on

  [[nodiscard]] bool tried(const Member& member) const {
    return std::find(request.tried.begin(), request.tried.end(), member.id) != request.tried.end();
  }

  /// Can be chosen, as far as a look can tell.
  [[nodiscard]] bool open(const Member& member) {
    if (tried(member)) return false;
    if (!force && !member.state->brakes.open(now_ms())) {
      met_braked = true;
      return false;
    }
    if ((member.max_sessions == 0 || member.state->sessions.load() < member.max_sessions) &&
        (member.pace.interval == 0 || member.state->rate.next(member.pace) <= request.now))
      return true;
    met_full = true;
    return false;
  }

  /// Chooses for good, or notes why not.
  [[nodiscard]] bool take(const Member& member) {
    if (tried(member)) return false;
    Brakes& brakes = member.state->brakes;
    if (force) {
      brakes.force();
    } else if (!brakes.enter(now_ms())) {
      met_braked = true;
      return false;
    }
    if (reserve(member)) {
      if (member.state->rate.admit(member.pace, request.now)) return true;
      Pool::release(*member.state);
    }
    brakes.settled();
    met_full = true;
    return false;
  }

  [[nodiscard]] std::int64_t now_ms() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(request.now).count();
  }
};

/// The open member at `fraction` (of 2^64) of the open members' weights laid end to end; nullptr:
/// none is open. `except` doesn't take part.
[[nodiscard]] const Member* draw(const Group& group, Search& search, std::uint64_t fraction,
                                 const Member* except = nullptr);

/// What every scheduler ends with when its own choice was tried, full or lost to another worker:
/// draws, and after a lost race takes whoever has a place. nullptr only when every member was tried
/// or full.
[[nodiscard]] const Member* share_out(const Group& group, Search& search, std::uint64_t fraction);

/// share_out() with the hash of the next spill position: what falls to a dead or full member goes
/// to the others by their weights, not to its neighbour.
[[nodiscard]] const Member* share_out_next(const Group& group, Search& search);

/// How often a scheduler looks again after another worker took the place it had chosen, before
/// share_out().
inline constexpr int kLapsMax = 4;

}  // namespace poise::balance
