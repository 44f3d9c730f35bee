#include "balance/pool.h"

#include <algorithm>
#include <map>
#include <utility>
#include <variant>

#include "balance/group.h"
#include "balance/least_conn.h"
#include "balance/maglev.h"
#include "balance/random_two.h"
#include "balance/round_robin.h"
#include "balance/source_hash.h"
#include "poise/check.h"

namespace poise::balance {
namespace {

using Chooser = std::variant<RoundRobin, LeastConn, RandomTwo, SourceHash, Maglev>;

Chooser make_chooser(config::Scheduler scheduler, Group group) {
  switch (scheduler) {
    case config::Scheduler::round_robin:
      return RoundRobin(std::move(group));
    case config::Scheduler::least_conn:
      return LeastConn(std::move(group));
    case config::Scheduler::random_two:
      return RandomTwo(std::move(group));
    case config::Scheduler::source_hash:
      return SourceHash(std::move(group));
    case config::Scheduler::maglev:
      return Maglev(std::move(group));
  }
  CHECK(false);
}

struct Tier {
  Group up;
  Group down;
  std::size_t members = 0;  ///< whatever their state

  /// A tier smaller than min_up could never be used otherwise, and a single backup server is
  /// common.
  [[nodiscard]] bool suffices(unsigned min_up) const {
    return up.size() >= std::clamp<std::size_t>(min_up, 1, members);
  }
};

using Tiers = std::map<std::uint32_t, Tier>;

Tiers sort_into_tiers(std::span<const Member> members) {
  Tiers tiers;
  for (const Member& member : members) {
    CHECK(member.state != nullptr);
    Tier& tier = tiers[member.tier];
    ++tier.members;
    if (!member.enabled || member.weight == 0) continue;
    (member.up ? tier.up : tier.down).push_back(&member);
  }
  return tiers;
}

/// The lowest tier with min_up; without preempt the one in use as long as it has them. When none
/// has, the lowest with anybody up: too few is better than nobody. When nobody is up, the lowest.
std::uint32_t choose_tier(const Tiers& tiers, const PoolSpec& spec) {
  const std::uint32_t in_use = spec.state->active_tier.load(std::memory_order_relaxed);
  if (tiers.empty()) return in_use;
  if (!spec.preempt) {
    const auto current = tiers.find(in_use);
    if (current != tiers.end() && current->second.suffices(spec.min_up)) return in_use;
  }
  for (const auto& [number, tier] : tiers) {
    if (tier.suffices(spec.min_up)) return number;
  }
  for (const auto& [number, tier] : tiers) {
    if (!tier.up.empty()) return number;
  }
  return tiers.begin()->first;
}

}  // namespace

struct Pool::Stage {
  Group group;
  Chooser chooser;

  Stage(config::Scheduler scheduler, Group members)
      : group(std::move(members)), chooser(make_chooser(scheduler, group)) {}

  [[nodiscard]] const Member* pick(Search& search) const {
    return std::visit([&](const auto& scheduler) { return scheduler.pick(search); }, chooser);
  }

  /// The brakes of all that could be chosen are on: a paused one last, and of the others the one
  /// that keeps the fewest waiting.
  [[nodiscard]] const Member* pick_braked(Search& search) const {
    const std::size_t start = search.request.random % group.size();
    const auto wait = [&](const Member& member) {
      const Brakes& brakes = member.state->brakes;
      return std::pair{brakes.paused(search.now_ms()), brakes.pending()};
    };
    for (int lap = 0; lap < kLapsMax; ++lap) {
      const Member* best = nullptr;
      for (std::size_t i = 0; i < group.size(); ++i) {
        const Member* member = group[(start + i) % group.size()];
        if (search.open(*member) && (best == nullptr || wait(*member) < wait(*best))) best = member;
      }
      if (best == nullptr || search.take(*best)) return best;
    }
    return pick(search);
  }
};

Pool::Pool(PoolSpec spec) : spec_(std::move(spec)) {
  CHECK(spec_.state != nullptr);
  CHECK(spec_.members.size() <= kMembersMax);
  Tiers tiers = sort_into_tiers(spec_.members);
  active_tier_ = choose_tier(tiers, spec_);
  spec_.state->active_tier.store(active_tier_, std::memory_order_relaxed);
  for (std::size_t i = 0; i < spec_.members.size(); ++i)
    by_id_.emplace_back(spec_.members[i].id, static_cast<std::uint16_t>(i));
  std::sort(by_id_.begin(), by_id_.end());

  const auto add = [this](std::uint32_t tier, Group& group) {
    const auto scheduler = config::scheduler_of(spec_.scheduler, spec_.tier_schedulers, tier);
    if (!group.empty()) stages_.emplace_back(scheduler, std::move(group));
    group.clear();
  };
  if (const auto active = tiers.find(active_tier_); active != tiers.end())
    add(active_tier_, active->second.up);
  for (auto& [number, tier] : tiers) {
    if (tier.suffices(spec_.min_up)) add(number, tier.up);
  }
  for (auto& [number, tier] : tiers) add(number, tier.up);
  stages_up_ = stages_.size();
  if (spec_.when_all_down == config::WhenAllDown::attempt) {
    for (auto& [number, tier] : tiers) add(number, tier.down);
  }
}

Pool::Pool(Pool&&) noexcept = default;
Pool& Pool::operator=(Pool&&) noexcept = default;
Pool::~Pool() = default;

const Member* Pool::find(BackendId id) const {
  const auto at = std::lower_bound(by_id_.begin(), by_id_.end(), std::pair{id, std::uint16_t{0}});
  return at != by_id_.end() && at->first == id ? &spec_.members[at->second] : nullptr;
}

/// From stages of one kind (up, or down): those without a brake on, then those with. Full is not
/// braked: where an unbraked member only needs waiting for, nobody is forced.
const Member* Pool::pick_from(std::size_t first, std::size_t last, Search& search) const {
  for (const bool force : {false, true}) {
    if (force && (!search.met_braked || search.met_full)) break;
    search.force = force;
    for (std::size_t i = first; i < last; ++i) {
      const Member* member = force ? stages_[i].pick_braked(search) : stages_[i].pick(search);
      if (member != nullptr) return member;
      search.first = false;
      if (search.met_full && spec_.overflow == config::Overflow::queue) return nullptr;
    }
  }
  return nullptr;
}

Pick Pool::pick(const PickRequest& request) const {
  Search search{request, *spec_.state, request.tried.empty()};
  if (request.preferred) {
    const Member* member = find(request.preferred);
    if (member != nullptr && member->up && member->enabled && member->weight > 0 &&
        search.take(*member))
      return {PickResult::chosen, member};
    search.met_full = search.met_braked = false;
  }
  if (const Member* member = pick_from(0, stages_up_, search)) return {PickResult::chosen, member};
  // Full is not down: whoever is down is not asked while an up one only needs waiting for.
  if (search.met_full) return {PickResult::full, nullptr};
  search.met_braked = false;
  if (const Member* member = pick_from(stages_up_, stages_.size(), search))
    return {PickResult::chosen, member};
  return {search.met_full ? PickResult::full : PickResult::no_backend, nullptr};
}

void Pool::release(BackendState& state) {
  const std::uint32_t before = state.sessions.fetch_sub(1);
  CHECK(before != 0);
}

}  // namespace poise::balance
