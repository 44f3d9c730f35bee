#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control/backend_table.h"
#include "health/header_paths.h"
#include "health/probe.h"
#include "poise/address.h"
#include "poise/session_record.h"

/// What commands answer with, as plain values: copied in the control thread, turned into tables and
/// JSON elsewhere.
namespace poise::control {

/// The kernel's own estimates, of what it carries.
struct Rates {
  std::uint64_t sessions = 0, bytes_to_client = 0, bytes_to_backend = 0;  ///< per second

  Rates& operator+=(const Rates& other) {
    sessions += other.sessions;
    bytes_to_client += other.bytes_to_client;
    bytes_to_backend += other.bytes_to_backend;
    return *this;
  }
};

struct BackendView {
  std::string pool, name, host;
  Address address;
  std::string state;  ///< as poise_backend_state has it
  std::string admin;  ///< enabled draining disabled
  unsigned weight = 0, weight_configured = 0;
  unsigned tier = 0;
  unsigned max_sessions = 0;
  std::uint32_t sessions = 0;
  std::uint64_t sessions_total = 0;
  std::uint64_t bytes_to_client = 0, bytes_to_backend = 0;
  std::optional<Rates> rates;  ///< none: no service has the kernel carry its sessions
  std::uint64_t retries = 0;   ///< tries that failed there
  std::string reason;          ///< the operator's, or health's
  std::string user;            ///< of the operator's decision
  WallTime since{};
  std::optional<std::chrono::seconds> closing_for;  ///< its sessions are let go for as long
};

struct ServiceView {
  std::string name, protocol, pool;
  std::string_view forwarding;  ///< as it is now: "proxy" where the kernel can't
  std::vector<Address> listen;
  std::string admin, reason, user;
  std::uint32_t sessions = 0;
  unsigned max_sessions = 0;
  std::uint64_t sessions_total = 0, refusals = 0, early_talkers = 0;
  std::uint64_t bytes_to_client = 0, bytes_to_backend = 0;
  std::optional<Rates> rates;  ///< none: the kernel carries none of it
  unsigned backends = 0, backends_up = 0;
};

/// Sessions that began in each of the last intervals, oldest first, by service and by "pool/name".
struct HistoryView {
  std::chrono::seconds interval{};
  std::vector<std::pair<std::string, std::vector<std::uint32_t>>> services, backends;
};

struct SessionView {
  std::uint64_t id = 0;
  Address client, vip;
  std::string service, backend;  ///< "pool/name"; empty: none yet
  SessionState state = SessionState::free;
  std::chrono::seconds age{};
  std::uint64_t bytes_to_client = 0, bytes_to_backend = 0;
  bool client_spoke_last = false;
};

struct SessionList {
  std::vector<SessionView> sessions;
  std::uint64_t matching = 0;  ///< all that matched; `sessions` is cut
};

/// What a command on sessions is about; empty fields match everything.
struct SessionFilter {
  std::uint64_t id = 0;
  std::string service;
  std::string backend;  ///< "pool/name"
  std::optional<Network> source;
};

/// The verdict, like that of a monitoring plugin.
enum class Verdict : std::uint8_t { ok, warning, critical };

/// The pair as one of its boxes sees it.
struct PairView {
  struct Instance {
    std::string name, role;
  };
  std::string node, role;  ///< ours; role: master backup fault unknown
  std::vector<Instance> instances;
  bool serves = false;              ///< we may have the addresses
  std::vector<std::string> faults;  ///< why not
  std::string peer, peer_role, peer_program;
  Address peer_address;
  bool linked = false;
  std::string trouble;           ///< why there is no link
  std::chrono::seconds since{};  ///< linked, or not
  std::uint16_t version = 0;     ///< of the language of the link
  bool in_sync = false;          ///< each knows what the other does
  bool same_config = false;      ///< the files are the same
  bool both_masters = false;
  double skew_seconds = 0;         ///< of the peer's clock, when it matters
  std::size_t unacknowledged = 0;  ///< changes that the peer has not got yet
  std::uint64_t sticky_told = 0, sticky_heard = 0;
};

struct PairDifference {
  std::vector<std::string> config;  ///< here -> there
  std::vector<std::string> state;
};

struct StatusView {
  Verdict verdict = Verdict::ok;
  std::string sentence;
  std::vector<std::string> problems;
  std::string version, hostname, config_path;
  int pid = 0;
  WallTime started{}, reloaded{};
  std::string reload_error;  ///< of the last reload, when it failed
  std::uint64_t reloads = 0, reloads_failed = 0;
  std::size_t workers = 0;
  std::uint32_t sessions = 0, sessions_max = 0;
  std::uint64_t sessions_total = 0;
  bool stopping = false;
  std::optional<PairView> pair;
};

struct WhyView {
  std::string service;
  Address client;
  std::string backend;             ///< "pool/name"; empty: it would be refused
  std::vector<std::string> steps;  ///< the reason, step by step
};

struct StickyView {
  std::string pool;
  Address source;  ///< cut to the pool's prefix
  unsigned prefix = 0;
  std::string backend;          ///< "pool/name"
  std::chrono::seconds idle{};  ///< since a session of that source last asked
};

struct StickyList {
  std::vector<StickyView> entries;
  std::uint64_t matching = 0;  ///< all that matched; `entries` is cut
};

/// What a probe that an operator asked for saw.
struct ProbeView {
  std::string backend;  ///< "pool/name"
  Address address;
  config::ProbeType type = config::ProbeType::tcp;
  health::ProbeResult result;
};

/// Which PROXY headers a backend takes.
struct HeadersView {
  std::string backend;  ///< "pool/name"
  health::HeaderVerdict verdict;
  std::vector<health::Path> paths;
};

struct Finding {
  Verdict verdict = Verdict::ok;
  std::string what;
  std::string advice;
};

struct ReloadView {
  bool done = false;
  std::vector<std::string> errors, warnings, changes;
  std::uint32_t cut = 0;         ///< sessions that end because of it
  std::uint32_t running_on = 0;  ///< sessions of removed services and backends, until they end
};

}  // namespace poise::control
