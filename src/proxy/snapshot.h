#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "balance/network_set.h"
#include "balance/pool.h"
#include "balance/rate.h"
#include "balance/source_table.h"
#include "balance/sticky_table.h"
#include "balance/waiters.h"
#include "poise/config.h"
#include "poise/counters.h"
#include "poise/durations.h"
#include "poise/ids.h"
#include "poise/registry.h"

namespace poise::proxy {

/// One service as workers see it.
struct Service {
  ServiceId id;
  Protocol protocol = Protocol::tcp;
  config::Timeouts timeouts;
  std::chrono::milliseconds keepalive{};
  std::chrono::milliseconds user_timeout{};
  bool gate = false;  ///< the server's greeting is judged before anything flows
  config::Greeting greeting;
  config::EarlyTalk early_talk = config::EarlyTalk::pass;
  bool sees_client = false;  ///< backends see the client's own address
  config::AcceptProxy accept_proxy = config::AcceptProxy::no;
  balance::NetworkSet trusted_proxies;
  config::SendProxy send_proxy = config::SendProxy::off;
  config::SourceAddress source_address;
  std::string hostname;  ///< in refusals
  config::Refusal refusal;
  config::DenyReply deny_reply = config::DenyReply::reply_554;
  unsigned sessions_max = 0;  ///< 0: no limit but the process's

  // Who may come, and how often. Tables live as long as the process.
  balance::NetworkSet allow, deny;
  bool allows_all = true;             ///< no `allow` list
  balance::NetworkSet limits_except;  ///< not subject to the limits below
  balance::Pace rate;
  balance::SourceLimits source_limits;
  bool limits_sources = false;

  // Of the pool.
  PoolId pool_id;
  balance::Waiters* waiters = nullptr;  ///< null: no queue
  config::Queue queue;
  bool paced = false;                      ///< a backend has a connect_rate
  balance::StickyTable* sticky = nullptr;  ///< null: not sticky
  unsigned sticky_prefix_v4 = 24, sticky_prefix_v6 = 64;
  double sticky_max_share = 0;
  balance::NetworkSet sticky_except;
  unsigned source_prefix_v4 = 32, source_prefix_v6 = 64;
  std::string congestion_backend = "system";
  std::shared_ptr<const balance::Pool> pool;
  std::uint32_t pair_none = 0;       ///< index of PairCounters for sessions without a backend
  std::vector<std::uint32_t> pairs;  ///< index of PairCounters, by position in pool->members()
};

/// A listening socket of this worker's. Control owns the descriptor.
struct Listener {
  int fd = -1;
  ServiceId service;
  Address address;
};

/// An immutable picture of everything a worker needs to serve. Made by control; a worker holds one
/// at a time and acknowledges when it has let go of the one before.
struct Snapshot {
  std::uint64_t version = 0;
  std::vector<Service>
      services;  ///< by ServiceId; a removed service keeps its last settings for its last sessions
  std::vector<std::shared_ptr<const balance::Pool>> pools;
  std::shared_ptr<const balance::NetworkSet> bans;  ///< null: none
};

/// Of one service, for the life of the process; shared by all workers.
struct alignas(64) ServiceState {
  std::atomic<std::uint32_t> sessions{0};
  balance::RateLimiter rate;
  /// Made by control when a limit per source is first asked for, before the snapshot that says so.
  std::unique_ptr<balance::SourceTable> sources;
};

/// What changes and survives every snapshot, by stable id. Grown by control only, before it
/// publishes what uses it.
struct Registries {
  Registry<ServiceState> services;
  Registry<balance::BackendState> backends;
  Registry<Address>
      backend_addresses;  ///< a backend that changes its address becomes another backend
  Registry<balance::PoolState> pools;
  Registry<balance::Waiters> waiters;      ///< by PoolId
  std::atomic<std::uint32_t> sessions{0};  ///< of the whole process
  std::uint32_t sessions_max = 0;          ///< set before the workers start
  std::uint32_t refusals_max = 128;        ///< sessions beyond, to be told that there is no room
};

/// One worker's own counters; single writer, any reader.
struct Counters {
  Registry<PairCounters> pairs;
  Registry<ServiceCounters> services;
  Registry<ServiceDurations> durations;     ///< by service too
  Registry<DurationHistogram> queue_waits;  ///< by pool: of those who left the queue, served or not
  WorkerCounters worker;
};

}  // namespace poise::proxy
