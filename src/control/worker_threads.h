#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "log/log.h"
#include "poise/result.h"
#include "proxy/worker.h"

namespace poise::control {

/// Of one pair of service and backend, over all workers.
struct PairSums {
  std::uint64_t sessions = 0;                   ///< that have ended
  std::uint64_t cut = 0;                        ///< of them, when poised stopped
  std::uint64_t to_client = 0, to_backend = 0;  ///< bytes
  std::uint64_t retries = 0;

  PairSums& operator+=(const PairSums& other);
};

/// The workers and their threads. Used by the control thread only, but for the counters, which any
/// thread may read.
class WorkerThreads {
 public:
  /// `trouble` is called by workers; it must not wait.
  WorkerThreads(proxy::Registries& registries, log::Log& log,
                std::function<void(const proxy::Trouble&)> trouble);
  ~WorkerThreads();
  WorkerThreads(const WorkerThreads&) = delete;
  WorkerThreads& operator=(const WorkerThreads&) = delete;

  Result<void> start(unsigned count);
  [[nodiscard]] std::size_t size() const { return threads_.size(); }

  /// To one, or to all.
  void post(std::size_t worker, proxy::Command command);
  void post(const proxy::Command& command);

  /// Makes room for the counters that `snapshot` names (so do it first), hands it to everybody and
  /// keeps it until all have gone on to a later one.
  void publish(std::unique_ptr<const proxy::Snapshot> snapshot, std::uint32_t pairs,
               std::uint32_t services, std::uint32_t pools);
  /// All work with the last snapshot published; frees the earlier ones.
  bool settled();

  /// Asks every worker for a sign of life. The number of one that still owes the last one; so ask
  /// seldom enough for a busy worker to answer in between.
  std::optional<std::size_t> ask_alive();

  [[nodiscard]] bool all_listening() const;
  [[nodiscard]] bool none_listening() const;
  [[nodiscard]] bool all_ended() const;

  [[nodiscard]] const proxy::Counters& counters(std::size_t worker) const;
  /// What all workers counted for one pair so far.
  [[nodiscard]] PairSums sums(std::uint32_t pair) const;

  /// Joins; `at_once` cuts what is still open. Counters are gone afterwards.
  void stop(bool at_once);

 private:
  struct Thread;

  proxy::Reports reports(log::SessionSink* sink, std::uint32_t worker);

  proxy::Registries& registries_;
  log::Log& log_;
  const std::function<void(const proxy::Trouble&)> trouble_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<std::unique_ptr<const proxy::Snapshot>> snapshots_;  // the last is current
};

}  // namespace poise::control
