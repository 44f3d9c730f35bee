#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "control/loop.h"
#include "control/world.h"
#include "health/monitor.h"
#include "health/transition_log.h"
#include "log/log.h"
#include "poise/config.h"
#include "poise/health.h"
#include "poise/reasons.h"
#include "poise/result.h"
#include "proxy/snapshot.h"

namespace poise::control {

/// Control's end of the health thread: tells it what to watch, enters what it concludes into the
/// backend table, logs every change, lets slow starts ramp, and knows what host names stand for.
/// Control thread, but for what is said of failed_try().
class HealthWatch {
 public:
  struct Hooks {
    /// What new sessions depend on has changed: publish before long.
    std::function<void()> changed;
    /// A name has other addresses: resolve() gives another configuration now.
    std::function<void()> renamed;
    /// A backend went down: its sessions are to be kept or let go.
    std::function<void(BackendId, config::OnDown)> went_down;
    /// It is not down any more.
    std::function<void(BackendId)> came_back;
    /// For the operators' list of events: what became of it, and why.
    std::function<void(const BackendStatus&, std::string what, std::string reason)> happened;
    /// Bytes to clients of a pair of service and backend so far. Any thread.
    std::function<std::uint64_t(std::uint32_t pair)> moved;
  };

  HealthWatch(Loop& loop, log::Log& log, World& world, const proxy::Registries& registries,
              Hooks hooks);
  ~HealthWatch();
  HealthWatch(const HealthWatch&) = delete;
  HealthWatch& operator=(const HealthWatch&) = delete;

  /// Starts the thread.
  Result<void> start();
  /// Nothing more comes from it.
  void stop();

  /// Takes over a configuration: reads the password files, and changes nothing when one can't be
  /// read; has its names resolved.
  Result<void> configure(const config::Config& config);

  /// `config` with each backend whose address is a name replaced by one backend an address known;
  /// a name without an address stays, without `literal`.
  [[nodiscard]] config::Config resolve(const config::Config& config) const;

  /// Watches what `resolved` names. Call once the World has entered its backends into the table.
  void watch(const config::Config& resolved);

  /// From the next watch() on no backend is probed more often than that; 0: as configured.
  void set_pace(std::chrono::milliseconds pace) { pace_ = pace; }

  /// Every backend that is probed has had a verdict, and every name an address.
  [[nodiscard]] bool settled() const;

  /// A try of a client's session at a backend failed; `prefix` tells clients' networks apart. Any
  /// thread; cheap.
  void failed_try(BackendId backend, TryOutcome outcome, std::uint64_t prefix);

  [[nodiscard]] health::Monitor& monitor() { return monitor_; }

 private:
  [[nodiscard]] std::uint64_t moved(BackendId backend) const;
  void on_health(const HealthEvent& event);
  void on_addresses(const std::string& name, std::vector<Address> addresses);
  void log_change(const HealthEvent& event, const BackendStatus& status);
  void log_left_out();
  void ramp();

  Loop& loop_;
  log::Log& log_;
  World& world_;
  const proxy::Registries& registries_;
  const Hooks hooks_;
  std::map<std::string, std::vector<Address>> names_;       ///< empty: no answer yet
  std::map<std::string, std::string> passwords_;            ///< by pool
  std::map<std::string, config::Pool> pools_;               ///< as watched
  std::map<std::uint32_t, health::TransitionLog> changes_;  ///< by BackendId
  std::map<std::uint32_t, Loop::Clock::time_point> ramps_;  ///< slow starts: since when
  std::set<std::uint32_t> checking_;                        ///< without a verdict yet
  bool ramp_armed_ = false;
  std::chrono::milliseconds pace_{};
  mutable std::mutex pairs_mutex_;
  std::map<std::uint32_t, std::vector<std::uint32_t>> pairs_;  ///< by BackendId; of all services
  health::Monitor monitor_;                                    ///< ends first
};

}  // namespace poise::control
