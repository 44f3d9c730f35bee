#include "control/world.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

#include "poise/check.h"

namespace poise::control {
namespace {

/// Sources without sessions that are remembered for their rate, per service.
constexpr std::uint32_t kSourceEntries = 65536;

/// Nobody outside can choose addresses that fall together in our tables.
std::uint64_t random_key() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

template <class Key, class IdType>
IdType id_of(std::map<Key, IdType>& ids, const Key& key) {
  const auto [at, inserted] = ids.try_emplace(key, IdType{static_cast<std::uint32_t>(ids.size())});
  return at->second;
}

}  // namespace

World::World(proxy::Registries& registries, log::NameTable& names)
    : registries_(registries), names_(names), hash_key_(random_key()) {}

std::uint32_t World::pair(ServiceId service, BackendId backend) {
  const auto [at, inserted] = pair_ids_.try_emplace({service.value, backend.value},
                                                    static_cast<std::uint32_t>(pairs_.size()));
  if (inserted) pairs_.push_back({service, backend});
  return at->second;
}

BackendStatus& World::enter(PoolId pool_id, const config::Pool& pool,
                            const config::Backend& backend) {
  const Address address = backend.literal.value_or(Address{});
  const std::size_t known = backends_.size();
  const BackendId id = id_of(backends_, BackendKey{pool.name, backend.name, address});
  registries_.backends.grow(static_cast<std::uint32_t>(backends_.size()));
  registries_.backend_addresses.grow(static_cast<std::uint32_t>(backends_.size()));
  // Once: workers read it, and an id never changes its address.
  if (id.value >= known) registries_.backend_addresses[id.value] = address;
  names_.set_backend(id, pool.name, backend.name);

  BackendStatus& status = backend_table_.at(id);
  if (status.name.empty() && pool.probe.type != config::ProbeType::off)
    status.health = Health::checking;
  status.pool = pool_id;
  status.pool_name = pool.name;
  status.name = backend.name;
  status.host = backend.host;
  status.address = address;
  status.weight_configured = backend.weight;
  backend_table_.configure(status);
  if (backends_.size() > known && on_new_backend) on_new_backend(status);

  return status;
}

namespace {

/// Health's preference for a backend, best first. Only the best kind there is counts as up, so that
/// health alone never empties a pool: those without a verdict serve until somebody has a good one,
/// those that say "busy" when nobody else is left.
enum class Preference : std::uint8_t { up, checking, busy, down };

Preference preference(const BackendStatus& status) {
  if (status.health == Health::down) return Preference::down;
  if (!status.takes_new) return Preference::busy;
  return status.health == Health::checking ? Preference::checking : Preference::up;
}

/// Parts a weight is divided into while somebody in the pool starts slowly.
constexpr unsigned kRampParts = 20;

}  // namespace

balance::PoolSpec World::spec_of(const config::Pool& pool) {
  balance::PoolSpec spec;
  spec.scheduler = pool.scheduler;
  spec.tier_schedulers = pool.tier_schedulers;
  spec.overflow = pool.overflow;
  spec.when_all_down = pool.when_all_down;
  spec.min_up = pool.min_up;
  spec.preempt = pool.preempt;
  const PoolId id = id_of(pools_, pool.name);
  registries_.pools.grow(static_cast<std::uint32_t>(pools_.size()));
  registries_.waiters.grow(static_cast<std::uint32_t>(pools_.size()));
  spec.state = &registries_.pools[id.value];
  // Those whose name has no address yet are known, and no members.
  Preference best = Preference::down;
  bool ramping = false;
  for (const config::Backend& backend : pool.backends) {
    const BackendStatus& status = enter(id, pool, backend);
    if (!backend.literal) continue;
    balance::Member& member = spec.members.emplace_back();
    member.id = status.id;
    member.address = status.address;
    member.max_sessions = backend.max_sessions;
    member.tier = backend.tier;
    member.pace = balance::Pace(backend.connect_rate);
    member.enabled = status.admin.admin == Admin::enabled;
    member.state = &registries_.backends[member.id.value];
    if (member.enabled && status.weight() > 0) best = std::min(best, preference(status));
    ramping = ramping || status.ramp < 1;
  }
  for (balance::Member& member : spec.members) {
    const BackendStatus& status = backend_table_.at(member.id);
    member.up = preference(status) <= best && status.health != Health::down && !status.hinted_down;
    member.weight = status.weight();
    if (ramping && member.weight > 0)
      member.weight = std::max(
          1u, static_cast<unsigned>(std::lround(member.weight * kRampParts * status.ramp)));
  }
  return spec;
}

balance::NetworkSet World::set_of(const std::vector<Network>& list) {
  if (list.empty()) return {};
  if (const auto found = sets_.find(list); found != sets_.end()) return found->second;
  if (auto before = last_sets_.extract(list))
    return sets_.insert(std::move(before)).position->second;
  return sets_.emplace(list, balance::NetworkSet(list)).first->second;
}

void World::add_access(proxy::Service& service, const config::Service& from) {
  service.allow = set_of(from.allow);
  service.deny = set_of(from.deny);
  service.allows_all = from.allow.empty();
  service.limits_except = set_of(from.limits.except);
  service.rate = balance::Pace(from.limits.rate);
  service.source_limits = {.sessions = from.limits.sessions_per_source,
                           .rate = balance::Pace(from.limits.rate_per_source),
                           .mode = from.limits.mode};
  service.limits_sources =
      from.limits.sessions_per_source > 0 || from.limits.rate_per_source.per_second > 0;
  auto& sources = registries_.services[service.id.value].sources;
  if (service.limits_sources && sources == nullptr)
    sources = std::make_unique<balance::SourceTable>(kSourceEntries, hash_key_);
}

void World::add_pool(proxy::Service& service, const config::Pool& from) {
  const PoolId id = pools_.at(from.name);
  service.pool_id = id;
  service.waiters = &registries_.waiters[id.value];
  service.queue = from.queue;
  service.paced = std::any_of(from.backends.begin(), from.backends.end(), [](const auto& backend) {
    return backend.connect_rate.per_second > 0;
  });
  if (!from.sticky) return;
  const balance::StickyTable::Options options{
      .entries = from.sticky->entries, .ttl = from.sticky->ttl, .backends = backends_known()};
  auto& table = sticky_[from.name];
  if (table == nullptr)
    table = std::make_unique<balance::StickyTable>(options, hash_key_);
  else
    table->configure(options);
  service.sticky = table.get();
  service.sticky_prefix_v4 = from.sticky->prefix_v4;
  service.sticky_prefix_v6 = from.sticky->prefix_v6;
  service.sticky_max_share = from.sticky->max_share;
  service.sticky_except = set_of(from.sticky->except);
}

void World::expire_sticky(std::chrono::nanoseconds now) {
  for (auto& [name, table] : sticky_) table->expire(now);
}

std::unique_ptr<const proxy::Snapshot> World::next(const config::Config& config) {
  auto snapshot = std::make_unique<proxy::Snapshot>();
  snapshot->version = ++version_;

  backend_table_.unconfigure();
  std::map<std::string, BuiltPool> built;
  std::vector<std::shared_ptr<const balance::Pool>> pools;
  for (const config::Pool& from : config.pools) {
    balance::PoolSpec spec = spec_of(from);
    const auto before = last_pools_.find(from.name);
    if (before != last_pools_.end() && before->second.spec == spec) {
      built.insert(*before);
    } else {
      auto pool = std::make_shared<const balance::Pool>(spec);
      built.emplace(from.name, BuiltPool{std::move(spec), std::move(pool)});
    }
    pools.push_back(built.at(from.name).pool);
  }
  last_pools_ = std::move(built);
  snapshot->pools = pools;

  for (const config::Service& from : config.services) {
    std::shared_ptr<const balance::Pool> candidates = pools[from.pool];
    proxy::Service service;
    service.id = id_of(services_, from.name);
    registries_.services.grow(static_cast<std::uint32_t>(services_.size()));
    names_.set_service(service.id, from.name);
    service.protocol = from.protocol;
    service.timeouts = from.timeouts;
    service.keepalive = from.keepalive;
    service.user_timeout = from.user_timeout;
    service.gate = from.greeting.enabled && from.protocol != Protocol::tcp;
    service.greeting = from.greeting;
    service.early_talk = from.early_talk;
    service.accept_proxy = from.accept_proxy;
    service.trusted_proxies = set_of(from.trusted_proxies);
    service.hostname = config.hostname;
    service.refusal = from.refusal;
    service.deny_reply = from.deny_reply;
    const config::Pool& pool = config.pools[from.pool];
    add_access(service, from);
    add_pool(service, pool);
    service.send_proxy = pool.send_proxy;
    service.source_address = pool.source_address;
    service.sees_client = pool.send_proxy != config::SendProxy::off || pool.source_address.client;
    service.sessions_max = from.limits.sessions;
    service.source_prefix_v4 = from.limits.source_prefix_v4;
    service.source_prefix_v6 = from.limits.source_prefix_v6;
    service.congestion_backend = pool.congestion;
    if (service_admin_.contains(from.name)) {
      if (!nobody_)
        nobody_ = std::make_shared<const balance::Pool>(balance::PoolSpec{.state = &nobody_state_});
      candidates = nobody_;
    }
    service.pool = std::move(candidates);
    service.pair_none = pair(service.id, BackendId{});
    for (const balance::Member& member : service.pool->members())
      service.pairs.push_back(pair(service.id, member.id));
    if (service.id.value >= last_services_.size()) last_services_.resize(service.id.value + 1);
    last_services_[service.id.value] = service;
  }
  last_sets_ = std::exchange(sets_, {});
  snapshot->services = last_services_;
  snapshot->bans = bans_;
  return snapshot;
}

const balance::PoolSpec* World::pool_spec(const std::string& name) const {
  const auto at = last_pools_.find(name);
  return at != last_pools_.end() ? &at->second.spec : nullptr;
}

}  // namespace poise::control
