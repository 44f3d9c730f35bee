#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "poise/health.h"
#include "poise/histogram.h"
#include "poise/reasons.h"

/// What there is to measure at one moment, as plain sums over the workers. Control fills it in
/// (reading counters disturbs no worker); expose() turns it into text, on any thread.
namespace poise::metrics {

struct DurationFacts {
  std::array<std::uint64_t, DurationHistogram::kBounds.size() + 1> buckets{};  ///< not cumulative
  double sum_seconds = 0;

  void add(const DurationHistogram& from);
};

/// Of one backend as used by one service.
struct PairFacts {
  std::array<std::uint64_t, kCloseReasonNames.size()> sessions{};  ///< ended, by close reason
  std::uint64_t ended_in_kernel = 0;                               ///< ip_vs doesn't say why
  std::uint64_t active = 0;
  std::uint64_t to_backend_bytes = 0, to_client_bytes = 0;
  std::array<std::uint64_t, kTryOutcomeNames.size()> retries{};
  std::array<std::uint64_t, kGreetingClassNames.size()> greetings{};
};

struct BackendFacts {
  std::string pool, backend;
  std::string state;
  bool up = false;
  unsigned weight = 0;
  std::array<std::uint64_t, kProbeOutcomeNames.size()> probes{};
  std::int64_t certificate_not_after = 0;  ///< Unix seconds; 0: none seen
};

struct PoolFacts {
  std::string pool;
  std::optional<DurationFacts> probe;                         ///< none: its backends are not probed
  bool probe_suspect = false, probe_login_refused = false;    ///< when they are
  std::optional<std::uint64_t> queue_length, sticky_entries;  ///< none: it has no such thing
  DurationFacts queue_wait;                                   ///< when there is a queue
};

struct ServiceFacts {
  std::string service;
  std::array<std::uint64_t, kRefusalReasonNames.size()> refusals{};
  std::uint64_t early_talkers = 0;
  DurationFacts connect, greeting, session;
};

struct Facts {
  std::string version;
  double start_time = 0;  ///< seconds since 1970
  double reload_success_time = 0;
  std::optional<double> config_file_time;  ///< none: there is no file
  std::uint64_t reloads = 0, reloads_failed = 0;
  bool reload_good = true;  ///< the last one
  std::uint64_t log_dropped = 0;
  std::uint64_t accept_paused = 0, sessions_shed = 0, buffers_ran_out = 0, bulk_turns = 0;
  std::uint64_t bans = 0;
  /// Used share by limit: "process", "service/smtp", "rate/smtp", "backend/mx/mx1", "queue/mx",
  /// "sticky/mx".
  std::map<std::string, double> limits;
  std::optional<bool> pair_in_sync;         ///< none: no pair
  std::map<std::string, std::string> vrrp;  ///< by instance: its state
  std::map<std::pair<std::string, std::string>, PairFacts>
      pairs;  ///< by service and bare backend name, "" for none
  std::vector<BackendFacts> backends;
  std::vector<PoolFacts> pools;
  std::vector<ServiceFacts> services;
};

}  // namespace poise::metrics
