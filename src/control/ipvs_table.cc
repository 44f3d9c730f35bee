#include "control/ipvs_table.h"

#include <algorithm>
#include <chrono>

#include "poise/check.h"

namespace poise::control {
namespace {

using config::Forwarding;

/// "No limit" for the kernel, which has none: longer than any session lasts.
constexpr std::uint32_t kForeverS = 30 * 86400;

std::uint32_t seconds(config::milliseconds time) {
  if (time.count() == 0) return kForeverS;
  const auto whole = std::chrono::ceil<std::chrono::seconds>(time).count();
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(whole, 1, kForeverS));
}

/// What a member is to get.
enum class Part : std::uint8_t {
  share,  ///< new connections by its weight
  rest,   ///< no new connections; it stays to get some later
  leave,  ///< no new connections; it goes when those there are over
  gone,   ///< no connections: its health says so
};

/// Who shares: the up members of the tier in use, else of the first that has any, else, when all
/// are down, those the configuration lets try.
class Shares {
 public:
  Shares(const config::Pool& config, const balance::Pool& pool) : on_down_(config.on_down) {
    const auto could = [](const balance::Member& member) {
      return member.enabled && member.weight > 0;
    };
    const auto members = pool.members();
    const auto has_up = [&](std::uint32_t tier) {
      return std::any_of(members.begin(), members.end(), [&](const balance::Member& member) {
        return member.tier == tier && member.up && could(member);
      });
    };
    std::vector<std::uint32_t> tiers{pool.active_tier()};
    for (const balance::Member& member : members) tiers.push_back(member.tier);
    std::sort(tiers.begin() + 1, tiers.end());
    for (const std::uint32_t tier : tiers) {
      if (!has_up(tier)) continue;
      tier_ = tier;
      somebody_up_ = true;
      return;
    }
    try_down_ = config.when_all_down == config::WhenAllDown::attempt;
    tier_ = tiers.size() > 1 ? tiers[1] : 0;
  }

  [[nodiscard]] bool somebody_up() const { return somebody_up_; }

  [[nodiscard]] Part of(const balance::Member& member, Admin admin) const {
    if (admin != Admin::enabled || !member.enabled) return Part::leave;
    if (!member.up) {
      if (somebody_up_ && on_down_ == config::OnDown::close) return Part::gone;
      return !somebody_up_ && try_down_ && member.tier == tier_ ? Part::share : Part::rest;
    }
    return member.tier == tier_ ? Part::share : Part::rest;
  }

 private:
  config::OnDown on_down_;
  bool somebody_up_ = false, try_down_ = false;
  std::uint32_t tier_ = 0;
};

bool in_use(const ipvs::Use& use) {
  // An inactive connection may be one that has just begun, or whose server is still sending.
  return use.active > 0 || use.inactive > 0;
}

/// Those in the kernel that nobody wants any more stay without new connections while they have any.
void keep_those_in_use(const ipvs::ServiceKey& key, const ipvs::Reading& now,
                       const std::set<Address>& not_these, ipvs::Service& service) {
  const auto there = now.table.find(key);
  const auto use = now.use.find(key);
  if (there == now.table.end() || use == now.use.end()) return;
  for (const auto& [address, destination] : there->second.destinations) {
    if (service.destinations.contains(address) || not_these.contains(address)) continue;
    const auto used = use->second.find(address);
    const bool had_weight = destination.weight > 0;
    if (!had_weight && (used == use->second.end() || !in_use(used->second))) continue;
    if (destination.method == ipvs::Method::other) continue;
    ipvs::Destination& kept = service.destinations[address] = destination;
    kept.weight = 0;
  }
}

void add_service(const IpvsInput& input, const config::Service& service, ipvs::Table& table) {
  const config::Pool& config = input.config.pools[service.pool];
  const balance::Pool& pool = *input.pools[service.pool];
  const Shares shares(config, pool);
  const bool closed = input.service_admin.contains(service.name);
  // The proxy refuses in the mail protocol; the kernel can't.
  const bool can_refuse = service.forwarding_fallback == config::ForwardingFallback::proxy;
  if (can_refuse && !shares.somebody_up() && !input.stopping && !closed) return;
  const ipvs::Method method = method_of(service.forwarding);
  for (const Address& listen : service.listen) {
    const ipvs::ServiceKey key = ipvs::ServiceKey::of(listen);
    ipvs::Service& wanted = table[key];
    wanted.settings = settings_of(config, listen.is_v6());
    std::set<Address> gone;
    for (const balance::Member& member : pool.members()) {
      // NAT and direct routing can't turn one family into the other.
      if (method != ipvs::Method::tunnel && member.address.family != listen.family) continue;
      const Address address = destination_address(key, method, member.address);
      const Part part = input.stopping || closed
                            ? Part::leave
                            : shares.of(member, input.backends.at(member.id).admin.admin);
      if (part == Part::gone) gone.insert(address);
      if (part == Part::gone || part == Part::leave) continue;
      wanted.destinations[address] = {.method = method,
                                      .weight = part == Part::share ? member.weight : 0,
                                      .max = member.max_sessions,
                                      .resume = 0};
    }
    keep_those_in_use(key, input.now, gone, wanted);
    if (closed && can_refuse && wanted.destinations.empty()) table.erase(key);
  }
}

}  // namespace

bool in_kernel(const config::Service& service) {
  return service.forwarding != Forwarding::proxy;
}

bool wants_listeners(const config::Service& service) {
  return !in_kernel(service) || service.forwarding_fallback == config::ForwardingFallback::proxy;
}

bool any_in_kernel(const config::Config& config) {
  return std::any_of(config.services.begin(), config.services.end(), in_kernel);
}

std::string_view name_of(Forwarding forwarding) {
  switch (forwarding) {
    case Forwarding::proxy:
      return "proxy";
    case Forwarding::ipvs_nat:
      return "ipvs-nat";
    case Forwarding::ipvs_dr:
      return "ipvs-dr";
    case Forwarding::ipvs_tun:
      return "ipvs-tun";
  }
  CHECK(false);
}

ipvs::Method method_of(Forwarding forwarding) {
  switch (forwarding) {
    case Forwarding::ipvs_nat:
      return ipvs::Method::nat;
    case Forwarding::ipvs_dr:
      return ipvs::Method::direct;
    case Forwarding::ipvs_tun:
      return ipvs::Method::tunnel;
    case Forwarding::proxy:
      break;
  }
  CHECK(false);
}

Address destination_address(const ipvs::ServiceKey& key, ipvs::Method method,
                            const Address& backend) {
  Address address = backend;
  // Packets keep their port but with NAT.
  if (method != ipvs::Method::nat) address.port = key.address.port;
  return address;
}

ipvs::ServiceSettings settings_of(const config::Pool& pool, bool v6) {
  ipvs::ServiceSettings settings;
  switch (pool.scheduler) {
    case config::Scheduler::round_robin:
      settings.scheduler = "wrr";
      break;
    case config::Scheduler::least_conn:
    case config::Scheduler::random_two:  // the kernel sees all connections: the least there is
      settings.scheduler = "wlc";
      break;
    case config::Scheduler::source_hash:
      settings = {.scheduler = "sh", .flags = ipvs::kFallback};
      break;
    case config::Scheduler::maglev:
      settings = {.scheduler = "mh", .flags = ipvs::kFallback};
      break;
  }
  if (pool.sticky) {
    settings.persistence = {
        seconds(pool.sticky->ttl),
        static_cast<std::uint8_t>(v6 ? pool.sticky->prefix_v6 : pool.sticky->prefix_v4)};
  }
  return settings;
}

ipvs::Table ipvs_table(const IpvsInput& input, const std::set<ipvs::ServiceKey>& owned) {
  ipvs::Table table;
  std::set<ipvs::ServiceKey> configured;
  for (const config::Service& service : input.config.services) {
    if (!in_kernel(service)) continue;
    for (const Address& listen : service.listen) configured.insert(ipvs::ServiceKey::of(listen));
    add_service(input, service, table);
  }
  for (const ipvs::ServiceKey& key : owned) {
    const auto there = input.now.table.find(key);
    if (configured.contains(key) || there == input.now.table.end()) continue;
    ipvs::Service left{.settings = there->second.settings, .destinations = {}};
    keep_those_in_use(key, input.now, {}, left);
    if (!left.destinations.empty()) table[key] = std::move(left);
  }
  return table;
}

ipvs::Timeouts ipvs_timeouts(const config::Config& config) {
  ipvs::Timeouts timeouts;
  for (const config::Service& service : config.services) {
    if (!in_kernel(service)) continue;
    const config::Timeouts& each = service.timeouts;
    timeouts.tcp_s = std::max({timeouts.tcp_s, seconds(each.idle), seconds(each.owed)});
    timeouts.tcp_fin_s = std::max(timeouts.tcp_fin_s, seconds(each.half_closed));
  }
  return timeouts;
}

}  // namespace poise::control
