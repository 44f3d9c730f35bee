#include "control/world.h"

#include "poise/check.h"

namespace poise::control {
namespace {

template <class Key, class IdType>
IdType id_of(std::map<Key, IdType>& ids, const Key& key) {
  const auto [at, inserted] = ids.try_emplace(key, IdType{static_cast<std::uint32_t>(ids.size())});
  return at->second;
}

}  // namespace

std::uint32_t World::pair(ServiceId service, BackendId backend) {
  const auto [at, inserted] = pair_ids_.try_emplace({service.value, backend.value},
                                                    static_cast<std::uint32_t>(pairs_.size()));
  if (inserted) pairs_.push_back({service, backend});
  return at->second;
}

std::unique_ptr<const proxy::Snapshot> World::next(const config::Config& config) {
  auto snapshot = std::make_unique<proxy::Snapshot>();
  snapshot->version = ++version_;

  std::vector<std::shared_ptr<const balance::Pool>> pools;
  for (const config::Pool& from : config.pools) {
    balance::PoolSpec spec;
    spec.scheduler = from.scheduler;
    spec.overflow = from.overflow;
    spec.when_all_down = from.when_all_down;
    spec.min_up = from.min_up;
    spec.preempt = from.preempt;
    const PoolId pool = id_of(pools_, from.name);
    registries_.pools.grow(static_cast<std::uint32_t>(pools_.size()));
    spec.state = &registries_.pools[pool.value];
    for (const config::Backend& backend : from.backends) {
      CHECK(backend.literal.has_value());  // names are resolved before they come here
      balance::Member member;
      member.address = *backend.literal;
      member.id = id_of(backends_, BackendKey{from.name, backend.name, member.address});
      registries_.backends.grow(static_cast<std::uint32_t>(backends_.size()));
      registries_.backend_addresses.grow(static_cast<std::uint32_t>(backends_.size()));
      registries_.backend_addresses[member.id.value] = member.address;
      names_.set_backend(member.id, from.name, backend.name);
      member.weight = backend.weight;
      member.max_sessions = backend.max_sessions;
      member.tier = backend.tier;
      member.state = &registries_.backends[member.id.value];
      spec.members.push_back(member);
    }
    pools.push_back(std::make_shared<const balance::Pool>(std::move(spec)));
  }
  snapshot->pools = pools;

  for (const config::Service& from : config.services) {
    proxy::Service service;
    service.id = id_of(services_, from.name);
    registries_.services.grow(static_cast<std::uint32_t>(services_.size()));
    names_.set_service(service.id, from.name);
    service.protocol = from.protocol;
    service.timeouts = from.timeouts;
    service.keepalive = from.keepalive;
    service.user_timeout = from.user_timeout;
    service.tries = from.greeting.tries;
    service.sessions_max = from.limits.sessions;
    service.source_prefix_v4 = from.limits.source_prefix_v4;
    service.source_prefix_v6 = from.limits.source_prefix_v6;
    service.congestion_backend = config.pools[from.pool].congestion;
    service.pool = pools[from.pool].get();
    service.pair_none = pair(service.id, BackendId{});
    for (const balance::Member& member : service.pool->members())
      service.pairs.push_back(pair(service.id, member.id));
    if (service.id.value >= last_services_.size()) last_services_.resize(service.id.value + 1);
    last_services_[service.id.value] = service;
  }
  snapshot->services = last_services_;
  return snapshot;
}

}  // namespace poise::control
