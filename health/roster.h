#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "health/passive_fall.h"
#include "health/probe.h"
#include "health/rise_fall.h"
#include "health/schedule.h"
#include "health/target.h"
#include "health/transition_log.h"
#include "poise/config.h"
#include "poise/health.h"

namespace poise::health {

/// A connect of a client's session that failed for a reason no client can cause.
struct PassiveEvent {
  BackendId backend;
  ProbeOutcome kind = ProbeOutcome::refused;  ///< refused, unreachable or timeout
  std::uint64_t prefix = 0;                   ///< tells clients' networks apart
};

/// Everything the health thread knows and decides: which backend is to be probed when, what the
/// outcomes add up to, and the rules of a pool that keep health from doing harm:
///
/// - a deep probe puts a backend down only while another backend of the pool passes it; when it
///   fails on all, the pool is `probe_suspect` and nobody is down for it;
/// - a failed login latches the deep tier of the pool for an hour; nobody is down for it;
/// - failures seen by clients eject at most `max_ejected` of a pool, and never the last one;
/// - no greeting for a probe, while clients get good ones or their sessions move bytes, means full
///   and not down;
/// - all down at once is said aloud, with the reason and with what happens to clients.
///
/// Pure: time is a value, starting a probe is returned and not done. Health thread only.
class Roster {
 public:
  struct Output {
    std::function<void(const HealthEvent&)> health;
    /// A sentence for the operator about a pool.
    std::function<void(config::LogLevel, std::string)> alert;
    /// Bytes that the backend has sent to clients so far. Empty: nobody knows.
    std::function<std::uint64_t(BackendId)> moved{};
  };

  /// A probe to run now. It ends with concluded(ticket, ...), whatever happens to the target.
  struct Start {
    std::uint64_t ticket = 0;
    Tier tier = Tier::cheap;
    std::shared_ptr<const Target> target;
  };

  static constexpr std::chrono::minutes kLatch{60};
  /// A name without an address is given so long before that is an outcome.
  static constexpr std::chrono::seconds kNameGrace{3};

  Roster(std::string node, Output output, InFlight::Caps caps = InFlight::Caps{});
  ~Roster();
  Roster(const Roster&) = delete;
  Roster& operator=(const Roster&) = delete;

  /// Replaces the set. An unchanged target keeps its history and its due time; one with new
  /// settings keeps its health and is probed anew.
  void set_targets(std::vector<Target> targets, Time now);

  /// What to start now; also ends slow starts and passive verdicts that are over.
  [[nodiscard]] std::vector<Start> take_due(Time now);

  /// When take_due() has something to do again, unless something is concluded before; none: never.
  [[nodiscard]] std::optional<Time> next_due() const;

  /// Probes are due that found no place: take_due() may start one once another is concluded.
  [[nodiscard]] bool waiting() const { return !waiting_.empty() || !waiting_down_.empty(); }

  void concluded(std::uint64_t ticket, const ProbeResult& result, Time now);
  void passive(const PassiveEvent& event, Time now);

  /// A reason to probe now; rate-limited to one probe a fast_interval.
  void soon(BackendId backend, Time now);

  [[nodiscard]] std::optional<Health> health(BackendId backend) const;
  [[nodiscard]] const Target* target(BackendId backend) const;
  [[nodiscard]] bool suspect(const std::string& pool) const;
  [[nodiscard]] bool latched(const std::string& pool) const;
  [[nodiscard]] unsigned running() const { return in_flight_.all(); }
  /// Cheap probes that a client's good greeting stood in for.
  [[nodiscard]] std::uint64_t stood_in() const { return stood_in_; }

 private:
  struct Entry;
  struct Pool {
    std::vector<std::uint32_t> members;  ///< values of BackendId
    bool suspect = false;
    bool all_down = false;
    bool latched = false;
    bool retrying = false;  ///< one deep probe tries whether the latch may open
    Time latched_until{};
    TransitionLog alerts;
  };
  struct Running {
    std::uint32_t id = 0;
    Tier tier = Tier::cheap;
    Time since{};
    std::string host;
    bool down = false;
    std::uint64_t moved = 0;
  };

  [[nodiscard]] Entry* find(std::uint32_t id);
  [[nodiscard]] Pool& pool_of(const Entry& entry);
  [[nodiscard]] Time deep_due(const Entry& entry) const;
  void make_schedules(Entry& entry, Time now);
  void queue(Entry& entry);
  [[nodiscard]] bool try_start(Entry& entry, Time now, std::vector<Start>& starts);
  [[nodiscard]] bool stands_in(const Entry& entry, Time now) const;
  void run_timers(Time now);
  void judge_cheap(Entry& entry, ProbeOutcome outcome, const std::string& words);
  void judge_deep(Entry& entry, const ProbeResult& result, Time now);
  void latch(Entry& entry, const ProbeResult& result, Time now);
  void unlatch(Pool& pool, const std::string& name, const std::string& why, Time now);
  void evaluate_deep(const std::string& pool, Time now);
  void evaluate_all_down(const std::string& pool, Time now);
  void alert(Pool& pool, config::LogLevel level, std::string text, Time now);
  [[nodiscard]] static Time greeted(const Target& target);
  [[nodiscard]] std::uint64_t moved(const Target& target) const;
  void report(Entry& entry, Time now);

  const std::string node_;
  const Output output_;
  InFlight in_flight_;
  std::map<std::uint32_t, std::unique_ptr<Entry>> entries_;
  std::map<std::string, Pool> pools_;
  std::set<std::pair<Time, std::uint32_t>> due_;     ///< probes; not of entries that run or wait
  std::set<std::pair<Time, std::uint32_t>> timers_;  ///< ends of slow starts and passive verdicts
  /// Due, but without a place; those that are down come after all others.
  std::deque<std::uint32_t> waiting_, waiting_down_;
  std::map<std::uint64_t, Running> running_;
  std::uint64_t last_ticket_ = 0;
  std::uint64_t stood_in_ = 0;
  bool begun_ = false;  ///< later backends come into a running pool, and start slowly
};

}  // namespace poise::health
