#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "health/roster.h"
#include "health/target.h"
#include "poise/counters.h"
#include "poise/histogram.h"
#include "poise/registry.h"
#include "poise/result.h"
#include "poise/tls_facts.h"

namespace poise::health {

/// What probes of one backend came to; written by the health thread, read by any.
struct ProbeStats {
  std::array<Counter, kProbeOutcomeNames.size()> outcomes;
  std::atomic<std::int64_t> not_after{0};  ///< of its certificate, Unix seconds; 0: none seen
};

/// What probes of one pool came to; written by the health thread, read by any.
struct PoolProbes {
  DurationHistogram durations;
  std::atomic<bool> suspect{false};        ///< the deep probe fails on every backend
  std::atomic<bool> login_refused{false};  ///< the deep probe's login is, so it is rarely tried
};

/// The last probe of a backend.
struct LastProbe {
  ProbeOutcome outcome = ProbeOutcome::good;
  std::string words;
  std::string step;
  bool deep = false;
  std::chrono::microseconds took{};
  std::chrono::system_clock::time_point at{};
  std::optional<TlsFacts> tls;  ///< of the last probe that came so far
};

/// The health thread: a libev loop that runs what a Roster says is due, and resolves names. Made,
/// fed and ended by control; what it finds comes out through Output, called in the health thread,
/// which must only pass it on.
class Monitor {
 public:
  struct Output {
    std::function<void(HealthEvent)> health;
    std::function<void(config::LogLevel, std::string)> alert;
    /// A name has (other) addresses; ports are 0.
    std::function<void(std::string name, std::vector<Address>)> addresses;
    std::function<std::uint64_t(BackendId)> moved{};  ///< see Roster::Output
  };

  /// Runs one probe on the loop, calls back exactly once, never from within the call. What a Prober
  /// does; tests put something else here.
  using StartProbe = std::function<void(ProbeRequest, std::function<void(const ProbeResult&)>)>;
  using MakeProber = std::function<StartProbe(struct ev_loop*)>;

  struct Options {
    std::string node;         ///< tells this machine from others that probe the same backends
    std::string dns_servers;  ///< instead of the system's: "127.0.0.1:5353,..."
    InFlight::Caps caps;
    MakeProber make_prober;  ///< empty: a Prober
  };

  Monitor(Options options, Output output);
  ~Monitor();  ///< stops
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  /// Fails when the process is out of descriptors or threads.
  Result<void> start();
  /// Ends what runs, without its verdict, and the thread.
  void stop();

  // What follows may be called before start() and is then done at its beginning.

  /// Control thread. See Roster::set_targets.
  void set_targets(std::vector<Target> targets);
  /// Replaces the names to resolve. Control thread.
  void set_names(std::vector<std::string> names);

  // For an operator's eyes: besides what is due and without a verdict. Any thread; `done` is called
  // in the health thread, or never when that ends first.

  /// What a probe of this backend says, cheap or deep; nothing when it is no target with an address
  /// and a probe.
  void request_of(BackendId backend, bool deep,
                  std::function<void(std::optional<ProbeRequest>)> done);
  /// Probes at once.
  void probe(ProbeRequest request, std::function<void(const ProbeResult&)> done);
  /// Any thread. There is a reason to look; rate-limited.
  void probe_soon(BackendId backend);
  /// Any thread.
  void passive(const PassiveEvent& event);

  // What is known; any thread, of a backend or pool that was a target once.

  [[nodiscard]] const ProbeStats& stats(BackendId backend) const { return stats_[backend.value]; }
  [[nodiscard]] const PoolProbes& probes(PoolId pool) const { return pools_[pool.value]; }
  [[nodiscard]] std::optional<LastProbe> last(BackendId backend) const;
  /// Cheap probes that a client's good greeting stood in for.
  [[nodiscard]] std::uint64_t stood_in() const { return stood_in_.get(); }

 private:
  struct Thread;

  void post(std::function<void(Thread&)> work, bool optional = false);

  const Options options_;
  const Output output_;
  Registry<ProbeStats> stats_;
  Registry<PoolProbes> pools_;
  Counter stood_in_;
  std::unique_ptr<Thread> thread_;
  std::atomic<bool> running_{false};  ///< the thread can be woken
};

}  // namespace poise::health
