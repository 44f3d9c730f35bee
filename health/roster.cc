#include "health/roster.h"

#include <fmt/format.h>

#include <algorithm>

#include "poise/check.h"

namespace poise::health {
namespace {

using config::LogLevel;

constexpr Time kNever = Time::max();

Schedule::Intervals cheap_intervals(const config::Probe& probe) {
  const auto some = [](milliseconds interval) { return std::max(interval, milliseconds{10}); };
  return {.steady = some(probe.interval),
          .in_doubt = some(std::min(probe.fast_interval, probe.interval)),
          .down = some(probe.down_interval)};
}

/// In doubt a deep probe is repeated at the pace of cheap ones, not of doubtful cheap ones: it
/// costs the server a login.
Schedule::Intervals deep_intervals(const config::Probe& probe) {
  const Schedule::Intervals cheap = cheap_intervals(probe);
  return {.steady = std::max(probe.deep.interval, cheap.in_doubt),
          .in_doubt = cheap.steady,
          .down = std::max(cheap.down, cheap.steady)};
}

std::string words_of(const ProbeResult& result) {
  return result.words.empty() ? std::string(name_of(result.outcome)) : result.words;
}

Pace pace_of(const RiseFall& tier) {
  if (tier.in_doubt()) return Pace::in_doubt;
  return tier.state() == RiseFall::State::dead ? Pace::down : Pace::steady;
}

}  // namespace

struct Roster::Entry {
  explicit Entry(Target t)
      : shared(std::make_shared<const Target>(std::move(t))),
        target(*shared),
        cheap(target.probe.rise, target.probe.fall),
        deep(target.probe.rise, target.probe.fall, RiseFall::State::alive),
        passive(target.passive.fall, target.passive.window) {}

  [[nodiscard]] std::uint32_t id() const { return target.id.value; }
  [[nodiscard]] bool alive() const { return cheap.state() == RiseFall::State::alive; }
  [[nodiscard]] bool usable() const { return reported != Health::down && !no_new; }
  [[nodiscard]] bool deep_passes_since(Time since) const {
    return !deep_failing && deep_good && *deep_good > since;
  }

  std::shared_ptr<const Target> shared;  ///< by a probe under way as well
  const Target& target;
  RiseFall cheap, deep;
  std::optional<Schedule> cheap_schedule, deep_schedule;
  std::uint64_t ticket = 0;  ///< of the probe under way; 0: none
  bool stale = false;        ///< what runs was asked with settings of before
  bool waiting = false;
  bool forced = false;  ///< nothing may stand in for the next probe
  std::optional<Time> due_key;

  bool no_new = false;
  std::string busy_words;
  ProbeOutcome outcome = ProbeOutcome::good;
  std::string words;

  bool deep_failing = false;  ///< by its last result
  bool deep_down = false;     ///< counts: another backend passes
  Time deep_failing_since{};
  std::optional<Time> deep_good;

  PassiveFall passive;
  PassiveHold passive_hold;
  bool ejected = false;               ///< by a passive verdict, not yet back
  std::optional<Time> passive_until;  ///< without a probe
  std::string passive_why;

  enum class Cause : std::uint8_t { none, cheap, deep, passive };
  Cause cause = Cause::none;  ///< why it is reported down
  Health reported = Health::checking;
  bool reported_no_new = false;
  bool late = false;  ///< came into a running pool
  std::optional<Time> ramp_until;
};

Roster::Roster(std::string node, Output output, InFlight::Caps caps)
    : node_(std::move(node)), output_(std::move(output)), in_flight_(caps) {}

Roster::~Roster() = default;

Roster::Entry* Roster::find(std::uint32_t id) {
  const auto at = entries_.find(id);
  return at == entries_.end() ? nullptr : at->second.get();
}

Roster::Pool& Roster::pool_of(const Entry& entry) {
  return pools_.at(entry.target.pool);
}

std::optional<Health> Roster::health(BackendId backend) const {
  const auto at = entries_.find(backend.value);
  if (at == entries_.end()) return std::nullopt;
  return at->second->reported;
}

const Target* Roster::target(BackendId backend) const {
  const auto at = entries_.find(backend.value);
  return at == entries_.end() ? nullptr : &at->second->target;
}

bool Roster::suspect(const std::string& pool) const {
  const auto at = pools_.find(pool);
  return at != pools_.end() && at->second.suspect;
}

bool Roster::latched(const std::string& pool) const {
  const auto at = pools_.find(pool);
  return at != pools_.end() && at->second.latched;
}

// ---- targets

void Roster::set_targets(std::vector<Target> targets, Time now) {
  std::map<std::uint32_t, std::unique_ptr<Entry>> before;
  before.swap(entries_);
  for (auto& [name, pool] : pools_) {
    pool.members.clear();
    pool.retrying = false;
  }
  due_.clear();
  waiting_.clear();
  waiting_down_.clear();
  for (Target& target : targets) {
    const std::uint32_t id = target.id.value;
    Pool& pool = pools_[target.pool];
    pool.members.push_back(id);
    std::unique_ptr<Entry> entry;
    if (const auto at = before.find(id); at != before.end()) entry = std::move(at->second);
    if (entry && entry->target == target) {
      entry->waiting = false;
      entry->due_key.reset();
    } else if (entry) {
      const bool credentials = entry->target.probe.deep != target.probe.deep ||
                               entry->target.login_password != target.login_password;
      if (credentials && pool.latched) unlatch(pool, target.pool, "its settings have changed", now);
      auto renewed = std::make_unique<Entry>(std::move(target));
      if (entry->reported != Health::checking)
        (void)renewed->cheap.set(
            entry->cause == Entry::Cause::cheap ? RiseFall::State::dead : RiseFall::State::alive,
            entry->cheap.history());
      renewed->ticket = entry->ticket;
      renewed->stale = entry->ticket != 0;
      renewed->no_new = entry->no_new;
      renewed->busy_words = entry->busy_words;
      renewed->outcome = entry->outcome;
      renewed->words = entry->words;
      renewed->reported = entry->reported;
      renewed->reported_no_new = entry->reported_no_new;
      renewed->ramp_until = entry->ramp_until;
      renewed->cause = entry->cause;
      entry = std::move(renewed);
      make_schedules(*entry, now);
    } else {
      entry = std::make_unique<Entry>(std::move(target));
      entry->late = begun_;
      make_schedules(*entry, now);
    }
    CHECK(entries_.emplace(id, std::move(entry)).second);
  }
  begun_ = begun_ || !entries_.empty();
  std::erase_if(pools_, [](const auto& each) { return each.second.members.empty(); });
  std::erase_if(timers_, [this](const auto& each) { return !entries_.contains(each.second); });
  for (const auto& [id, entry] : entries_) {
    report(*entry, now);
    queue(*entry);
  }
  for (const auto& [name, pool] : pools_) evaluate_all_down(name, now);
}

void Roster::make_schedules(Entry& entry, Time now) {
  const Target& target = entry.target;
  if (!target.probed()) return;
  entry.cheap_schedule.emplace(cheap_intervals(target.probe),
                               spread_seed(node_, target.pool, target.name, 0),
                               target.address ? now : now + kNameGrace);
  if (!target.probed_deep()) return;
  // The first deep probe comes within the first interval: a wrong login is seen early, and not
  // on all servers in the same moment.
  const Schedule::Intervals intervals = deep_intervals(target.probe);
  const std::uint64_t seed = spread_seed(node_, target.pool, target.name, 1);
  const auto offset = milliseconds{
      static_cast<std::int64_t>(seed % static_cast<std::uint64_t>(intervals.in_doubt.count()))};
  entry.deep_schedule.emplace(intervals, seed, now + offset);
}

// ---- what is due

Time Roster::deep_due(const Entry& entry) const {
  if (!entry.deep_schedule || !entry.alive()) return kNever;
  const Pool& pool = pools_.at(entry.target.pool);
  if (!pool.latched) return entry.deep_schedule->due();
  return pool.retrying ? kNever : std::max(entry.deep_schedule->due(), pool.latched_until);
}

void Roster::queue(Entry& entry) {
  if (entry.due_key) due_.erase({*entry.due_key, entry.id()});
  entry.due_key.reset();
  if (entry.ticket != 0 || entry.waiting || !entry.cheap_schedule) return;
  const Time due = std::min(entry.cheap_schedule->due(), deep_due(entry));
  if (due == kNever) return;
  entry.due_key = due;
  due_.emplace(due, entry.id());
}

std::optional<Time> Roster::next_due() const {
  Time next = kNever;
  if (!due_.empty()) next = due_.begin()->first;
  if (!timers_.empty()) next = std::min(next, timers_.begin()->first);
  if (next == kNever) return std::nullopt;
  return next;
}

Time Roster::greeted(const Target& target) {
  const std::int64_t ms =
      target.greeted_ms == nullptr ? 0 : target.greeted_ms->load(std::memory_order_relaxed);
  return ms > 0 ? Time{milliseconds{ms}} : Time::min();
}

std::uint64_t Roster::moved(const Target& target) const {
  return output_.moved ? output_.moved(target.id) : 0;
}

bool Roster::stands_in(const Entry& entry, Time now) const {
  if (entry.forced || !entry.alive() || entry.cheap.in_doubt() || entry.no_new) return false;
  return greeted(entry.target) >= now - entry.target.probe.interval;
}

/// False: no place for it now.
bool Roster::try_start(Entry& entry, Time now, std::vector<Start>& starts) {
  const bool deep = deep_due(entry) <= now;
  if (!deep && entry.cheap_schedule->due() > now) return true;
  if (!deep && stands_in(entry, now)) {
    entry.cheap_schedule->started(now);
    ++stood_in_;
    return true;
  }
  Running running{.id = entry.id(),
                  .tier = deep ? Tier::deep : Tier::cheap,
                  .since = now,
                  .host = entry.target.host_key(),
                  .down = entry.reported == Health::down,
                  .moved = moved(entry.target)};
  if (!in_flight_.begin(running.host, running.down)) return false;
  entry.forced = false;
  entry.cheap_schedule->started(now);
  if (deep) {
    entry.deep_schedule->started(now);
    Pool& pool = pool_of(entry);
    pool.retrying = pool.latched;
  }
  const std::uint64_t ticket = entry.ticket = ++last_ticket_;
  starts.push_back({.ticket = ticket, .tier = running.tier, .target = entry.shared});
  running_.emplace(ticket, std::move(running));
  return true;
}

std::vector<Roster::Start> Roster::take_due(Time now) {
  run_timers(now);
  std::vector<Start> starts;
  for (std::deque<std::uint32_t>* line : {&waiting_, &waiting_down_}) {
    for (std::size_t left = line->size(); left > 0 && !in_flight_.full(); --left) {
      Entry& entry = *entries_.at(line->front());
      line->pop_front();
      if (try_start(entry, now, starts)) {
        entry.waiting = false;
        queue(entry);
      } else {
        line->push_back(entry.id());
      }
    }
  }
  while (!due_.empty() && due_.begin()->first <= now) {
    Entry& entry = *entries_.at(due_.begin()->second);
    due_.erase(due_.begin());
    entry.due_key.reset();
    if (!try_start(entry, now, starts)) {
      entry.waiting = true;
      (entry.reported == Health::down ? waiting_down_ : waiting_).push_back(entry.id());
    }
    queue(entry);
  }
  return starts;
}

void Roster::run_timers(Time now) {
  while (!timers_.empty() && timers_.begin()->first <= now) {
    Entry& entry = *entries_.at(timers_.begin()->second);
    timers_.erase(timers_.begin());
    if (entry.ramp_until && *entry.ramp_until <= now) entry.ramp_until.reset();
    if (entry.passive_until && *entry.passive_until <= now) {
      entry.passive_until.reset();
      entry.ejected = false;
    }
    report(entry, now);
  }
}

void Roster::soon(BackendId backend, Time now) {
  Entry* entry = find(backend.value);
  if (entry == nullptr || !entry->cheap_schedule) return;
  entry->cheap_schedule->soon(now);
  entry->forced = true;
  queue(*entry);
}

// ---- verdicts

void Roster::concluded(std::uint64_t ticket, const ProbeResult& result, Time now) {
  const auto at = running_.find(ticket);
  CHECK(at != running_.end());
  const Running running = std::move(at->second);
  running_.erase(at);
  in_flight_.end(running.host, running.down);
  Entry* entry = find(running.id);
  if (entry == nullptr || entry->ticket != ticket) return;
  entry->ticket = 0;
  Pool& pool = pool_of(*entry);
  const bool retried = running.tier == Tier::deep && std::exchange(pool.retrying, false);
  // It works for clients while our probe waits for its greeting: it is full, not down.
  const bool full =
      result.outcome == ProbeOutcome::silent &&
      (greeted(entry->target) > running.since || moved(entry->target) > running.moved);
  if (entry->stale || result.local_fault || full || !entry->cheap_schedule) {
    entry->stale = false;
    if (retried) pool.latched_until = now + entry->target.probe.interval;
    queue(*entry);
    return;
  }
  entry->outcome = result.outcome;
  entry->words = words_of(result);
  // What a later step failed at is the deep tier's business; the greeting was good.
  const bool deep_verdict = running.tier == Tier::deep &&
                            (result.good() || result.auth_failed || result.deep_step_failed) &&
                            result.outcome != ProbeOutcome::busy;
  const RiseFall::State before = entry->cheap.state();
  judge_cheap(*entry, deep_verdict ? ProbeOutcome::good : result.outcome, entry->words);
  if (deep_verdict) {
    judge_deep(*entry, result, now);
  } else if (retried) {
    pool.latched_until = now + entry->target.probe.deep.interval;
  }
  entry->cheap_schedule->concluded(pace_of(entry->cheap), now);
  // A deep probe that did not get beyond the greeting is tried again before long.
  if (running.tier == Tier::deep)
    entry->deep_schedule->concluded(deep_verdict ? pace_of(entry->deep) : Pace::in_doubt, now);
  if (entry->target.probed_deep() && (deep_verdict || entry->cheap.state() != before))
    evaluate_deep(entry->target.pool, now);
  report(*entry, now);
  queue(*entry);
  if (retried)
    for (const std::uint32_t member : pool.members) queue(*entries_.at(member));
}

void Roster::judge_cheap(Entry& entry, ProbeOutcome outcome, const std::string& words) {
  const bool busy = outcome == ProbeOutcome::busy;
  const bool alive = outcome == ProbeOutcome::good ||
                     (busy && entry.target.probe.busy == config::ProbeBusy::no_new);
  if (entry.cheap.add(alive, words) && alive) entry.ejected = false;
  if (alive) {
    entry.no_new = busy;
    if (busy) entry.busy_words = words;
  }
  if (entry.cheap.state() != RiseFall::State::dead) return;
  entry.no_new = false;
  // A server that comes back is another one to the deep tier.
  (void)entry.deep.set(RiseFall::State::alive, "");
  entry.deep_failing = entry.deep_down = false;
}

void Roster::judge_deep(Entry& entry, const ProbeResult& result, Time now) {
  Pool& pool = pool_of(entry);
  if (result.auth_failed) return latch(entry, result, now);
  if (pool.latched) {
    unlatch(pool, entry.target.pool, fmt::format("{} took the login", entry.target.path()), now);
  }
  if (result.good()) {
    entry.deep_failing = false;
    entry.deep_good = now;
  } else if (!entry.deep_failing) {
    entry.deep_failing = true;
    entry.deep_failing_since = now;
  }
  (void)entry.deep.add(result.good(), result.step.empty()
                                          ? words_of(result)
                                          : fmt::format("{}: {}", result.step, words_of(result)));
}

void Roster::latch(Entry& entry, const ProbeResult& result, Time now) {
  Pool& pool = pool_of(entry);
  pool.latched_until = now + kLatch;
  if (pool.latched) return;
  pool.latched = true;
  pool.suspect = false;
  alert(pool, LogLevel::error,
        fmt::format(
            "pool {}: {} refuses the deep probe's login ({}): no deep probes of this pool for "
            "60 min, then one a time; nobody is down for it. Check probe.deep.login and its "
            "password_file, then reload",
            entry.target.pool, entry.target.path(), words_of(result)),
        now);
  // Verdicts of the deep tier no longer count.
  for (const std::uint32_t member : pool.members) {
    Entry& each = *entries_.at(member);
    (void)each.deep.set(RiseFall::State::alive, "");
    each.deep_failing = each.deep_down = false;
    if (&each == &entry) continue;
    report(each, now);
    queue(each);
  }
}

void Roster::unlatch(Pool& pool, const std::string& name, const std::string& why, Time now) {
  pool.latched = pool.retrying = false;
  alert(pool, LogLevel::info, fmt::format("pool {}: deep probes go on: {}", name, why), now);
}

void Roster::evaluate_deep(const std::string& name, Time now) {
  Pool& pool = pools_.at(name);
  if (pool.latched) return;
  std::vector<Entry*> members;
  for (const std::uint32_t id : pool.members)
    if (Entry& entry = *entries_.at(id); entry.deep_schedule && entry.alive())
      members.push_back(&entry);
  if (members.empty()) return;
  const bool all_fail = std::all_of(members.begin(), members.end(),
                                    [](const Entry* each) { return each->deep_failing; });
  const auto dead = std::find_if(members.begin(), members.end(), [](const Entry* each) {
    return each->deep.state() == RiseFall::State::dead;
  });
  const bool was_suspect = pool.suspect;
  if (!all_fail) pool.suspect = false;
  if (all_fail && dead != members.end()) pool.suspect = true;
  if (pool.suspect && !was_suspect)
    alert(pool, LogLevel::error,
          fmt::format("pool {}: probe_suspect: the deep probe fails on {} at once, so it is "
                      "not taken for their fault and nobody is down for it; {}: {}. Check "
                      "probe.deep and what it logs in to",
                      name,
                      members.size() == 1 ? std::string("its only backend that is alive")
                                          : fmt::format("all {} backends", members.size()),
                      (*dead)->target.path(), (*dead)->deep.history()),
          now);
  if (!pool.suspect && was_suspect) {
    alert(pool, LogLevel::info,
          fmt::format("pool {}: the deep probe passes again: no longer probe_suspect", name), now);
    // What was counted when all failed speaks against nobody.
    for (Entry* each : members) {
      (void)each->deep.set(RiseFall::State::alive, "");
      each->deep_failing = false;
    }
  }

  for (Entry* each : members) {
    if (each->deep.state() != RiseFall::State::dead || pool.suspect) {
      each->deep_down = false;
    } else if (!each->deep_down) {
      // Somebody else must have passed since this one began to fail; who was not asked since is.
      for (Entry* other : members) {
        if (other == each || other->deep_failing) continue;
        if (other->deep_passes_since(each->deep_failing_since)) {
          each->deep_down = true;
        } else {
          other->deep_schedule->soon(now);
          queue(*other);
        }
      }
    }
    report(*each, now);
  }
}

void Roster::passive(const PassiveEvent& event, Time now) {
  Entry* entry = find(event.backend.value);
  if (entry == nullptr) return;
  soon(event.backend, now);
  const config::Passive& settings = entry->target.passive;
  if (!settings.enabled || entry->reported == Health::down) return;
  if (!entry->passive.failed(event.prefix, now, greeted(entry->target))) return;

  const Pool& pool = pool_of(*entry);
  unsigned ejected = 0, others = 0;
  for (const std::uint32_t id : pool.members) {
    const Entry& each = *entries_.at(id);
    if (each.ejected) ++ejected;
    if (&each != entry && each.usable()) ++others;
  }
  if (others == 0 ||
      ejected >= ejected_max(static_cast<unsigned>(pool.members.size()), settings.max_ejected))
    return;

  entry->ejected = true;
  entry->passive_why =
      fmt::format("{} clients' connects failed within {:g} s, from several networks, last: {}",
                  std::max(settings.fall, 1u),
                  std::chrono::duration<double>(settings.window).count(), name_of(event.kind));
  entry->outcome = event.kind;
  if (entry->target.probed()) {
    (void)entry->cheap.set(RiseFall::State::dead, entry->passive_why);
    entry->no_new = false;
  } else {
    entry->passive_until = entry->passive_hold.begin(now);
    timers_.emplace(*entry->passive_until, entry->id());
  }
  report(*entry, now);
}

/// A pool that flaps does not fill the log either.
void Roster::alert(Pool& pool, config::LogLevel level, std::string text, Time now) {
  const auto left_out = pool.alerts.admit(now);
  if (!left_out) return;
  if (*left_out > 0) text += fmt::format(" ({} lines before it are not logged)", *left_out);
  output_.alert(level, std::move(text));
}

void Roster::report(Entry& entry, Time now) {
  using Cause = Entry::Cause;
  Health health = Health::up;
  Cause cause = Cause::none;
  std::string reason;
  if (entry.passive_until) {
    cause = Cause::passive;
    reason = entry.passive_why;
  } else if (entry.target.probed()) {
    if (entry.cheap.state() == RiseFall::State::dead) {
      cause = Cause::cheap;
      reason = entry.cheap.history();
    } else if (entry.deep_down) {
      cause = Cause::deep;
      reason = "deep probe, " + entry.deep.history();
    } else if (entry.cheap.state() == RiseFall::State::unknown) {
      health = Health::checking;
    }
  }
  if (cause != Cause::none) health = Health::down;
  if (health == Health::up) {
    const bool returns =
        entry.reported == Health::down || (entry.reported == Health::checking && entry.late);
    if (returns && entry.target.slow_start.count() > 0) {
      entry.ramp_until = now + entry.target.slow_start;
      timers_.emplace(*entry.ramp_until, entry.id());
    }
    if (entry.ramp_until) health = Health::recovering;
    if (entry.reported == Health::recovering) {
      reason = "slow start is over";
    } else if (!entry.target.probed()) {
      reason = entry.cause == Cause::passive ? "tried again after a passive verdict" : "not probed";
    } else if (entry.cause == Cause::deep) {
      const Pool& pool = pool_of(entry);
      reason = pool.suspect   ? "the deep probe fails everywhere and no longer counts"
               : pool.latched ? "the deep probe's login fails and no longer counts"
                              : "deep probe, " + entry.deep.history();
    } else {
      reason = entry.cheap.history();
    }
  } else {
    entry.ramp_until.reset();
  }
  const bool no_new = entry.no_new && health != Health::down;
  const Health before = entry.reported;
  entry.cause = cause;
  if (health == before && no_new == entry.reported_no_new) return;
  if (health == before)
    reason = no_new ? "busy, no new sessions while it says so: " + entry.busy_words
                    : "no longer busy: " + entry.words;
  entry.reported = health;
  entry.reported_no_new = no_new;
  if (health == Health::down) entry.passive.forget();
  output_.health({.backend = entry.target.id,
                  .before = before,
                  .health = health,
                  .outcome = entry.outcome,
                  .no_new = no_new,
                  .reason = std::move(reason)});
  if ((before == Health::down) != (health == Health::down))
    evaluate_all_down(entry.target.pool, now);
}

void Roster::evaluate_all_down(const std::string& name, Time now) {
  Pool& pool = pools_.at(name);
  bool all = true;
  std::string up, why;
  for (const std::uint32_t id : pool.members) {
    const Entry& entry = *entries_.at(id);
    if (entry.reported != Health::down) {
      all = false;
      up = entry.target.path();
    }
  }
  if (all == pool.all_down) return;
  pool.all_down = all;
  if (!all) {
    alert(pool, LogLevel::info, fmt::format("pool {}: no longer all down: {} is back", name, up),
          now);
    return;
  }
  constexpr std::size_t kNamed = 3;
  std::size_t named = 0;
  for (const std::uint32_t id : pool.members) {
    const Entry& entry = *entries_.at(id);
    if (named++ == kNamed) {
      why += fmt::format("; and {} more", pool.members.size() - kNamed);
      break;
    }
    why += fmt::format("{}{}: {}", why.empty() ? "" : "; ", entry.target.name,
                       entry.words.empty() ? entry.passive_why : entry.words);
  }
  const bool tried =
      entries_.at(pool.members.front())->target.when_all_down == config::WhenAllDown::attempt;
  alert(pool, LogLevel::error,
        fmt::format(
            "pool {}: {} down ({}). {}", name,
            pool.members.size() == 1 ? std::string("its only backend is")
                                     : fmt::format("all {} backends are", pool.members.size()),
            why,
            tried ? "Clients are still tried on them (when_all_down: try); if the servers work, "
                    "the probe is wrong"
                  : "Clients are refused (when_all_down: refuse)"),
        now);
}

}  // namespace poise::health
