#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

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
  std::uint64_t reloads = 0, reloads_failed = 0;
  bool reload_good = true;  ///< the last one
  std::uint64_t log_dropped = 0;
  std::uint64_t accept_paused = 0, sessions_shed = 0, buffers_ran_out = 0, bulk_turns = 0;
  std::map<std::string, double> limits;  ///< used share by limit: "process", "service/smtp"
  std::map<std::pair<std::string, std::string>, PairFacts>
      pairs;  ///< by service and bare backend name, "" for none
  std::vector<BackendFacts> backends;
  std::vector<ServiceFacts> services;
};

}  // namespace poise::metrics
