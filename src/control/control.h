#pragma once

#include <chrono>
#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/commands.h"
#include "control/drains.h"
#include "control/events.h"
#include "control/health_watch.h"
#include "control/ipvs_services.h"
#include "control/listeners.h"
#include "control/loop.h"
#include "control/operator_states.h"
#include "control/pair_watch.h"
#include "control/worker_threads.h"
#include "control/world.h"
#include "log/log.h"
#include "net/fd.h"
#include "pair/guard.h"
#include "poise/config.h"
#include "poise/result.h"
#include "proxy/worker.h"

namespace poise::control {

using std::chrono::milliseconds;

/// What the program that runs us, and through it the service manager, is told; each may be empty.
struct Notify {
  std::function<void()> ready;  ///< serves; again when a reload is over
  std::function<void()> reloading;
  std::function<void(milliseconds)> stopping;      ///< and may take that long
  std::function<void(const std::string&)> status;  ///< one sentence, when it is another than before
  std::function<void(const std::string& backend)> down;  ///< "pool/name" went down
  std::function<void()> alive;  ///< control and all workers are; often enough for `About::watchdog`
};

/// What control can't know by itself.
struct About {
  std::string config_path;                   ///< how what is said names the configuration
  std::function<config::LoadResult()> load;  ///< reads it again, for a reload
  /// Folder of what survives the process: the operators' decisions, and which services in the
  /// kernel's table are ours. Empty: nothing does.
  std::string state_directory;
  std::string version;
  milliseconds
      watchdog{};  ///< how long the service manager waits for `Notify::alive`; 0: it does not
  const pair::Guard* guard = nullptr;  ///< of a pair
};

/// Runs the configured services: opens the listeners, starts the workers, waits for signals,
/// drains, stops. Lives in the main thread, owns the listeners' descriptors and every snapshot. The
/// uid has changed before.
class Control {
 public:
  Control(config::Config config, About about, log::Log& log, Notify notify);
  ~Control();
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  /// Blocks the signals that run() waits for, in this thread and all made later. Call before any
  /// thread is made.
  static void block_signals();

  /// Opens what can fail, so that a start either serves everything configured or says why not.
  Result<void> start();

  /// Serves until told to stop; returns when the last session is over or the drain has timed out.
  void run();

  /// From any thread: runs `work` in control's thread. It is destroyed without having run when
  /// control has ended.
  void ask(std::function<void(Commands&)> work);

 private:
  Result<void> await_listening();
  void stop_listening();
  void look_for_faults(bool silent_worker);
  void rebuild();
  void follow_role();
  void publish();
  void publish_soon();
  void await_verdicts();
  void health_changed();
  void settle();
  void expire_sticky();
  void look_after_workers();
  void let_go(BackendId id, config::OnDown what);
  void on_signal(const signalfd_siginfo& info);
  void begin_drain(std::string cause);
  void await_listeners_closed();
  void await_workers_ended();
  void cut(const std::string& why);
  [[nodiscard]] std::uint32_t sessions() const;
  void warn_of_descriptors();
  void log_totals();

  config::Config config_;
  log::Log& log_;
  Notify notify_;
  proxy::Registries registries_;
  World world_;
  Listeners listeners_;
  Events events_;
  OperatorStates states_;
  Loop loop_;
  HealthWatch health_;
  config::Config resolved_;  // with names as addresses; what snapshots are made of
  IpvsServices ipvs_;
  PairWatch pair_;
  const pair::Guard* const guard_;
  WorkerThreads workers_;  // gone before what they use
  Drains drains_;
  Commands commands_;
  const milliseconds watch_interval_;
  std::optional<std::size_t> silent_worker_;
  std::string status_told_;
  std::string stop_cause_;  // empty: not stopping
  bool cutting_ = false;
  bool starting_ = false;     // the first verdicts are awaited
  bool publish_due_ = false;  // a timer is set for it
};

}  // namespace poise::control
