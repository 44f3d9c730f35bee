#include "control/ipvs_services.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "ipvs/difference.h"
#include "ipvs/owned.h"
#include "net/privileges.h"

namespace poise::control {
namespace {

using config::LogLevel;
using std::chrono::milliseconds;

/// How often the table is compared with what it should be, and its counters are read.
constexpr milliseconds kLook{2000};
constexpr milliseconds kLookStopping{200};

/// Somebody else who keeps changing our services is told about no oftener.
constexpr std::chrono::seconds kRepairLogged{60};

std::set<ipvs::ServiceKey> keys_of(const ipvs::Table& table) {
  std::set<ipvs::ServiceKey> keys;
  for (const auto& [key, service] : table) keys.insert(key);
  return keys;
}

std::uint64_t since(std::uint64_t before, std::uint64_t now) {
  return now >= before ? now - before : now;  // the kernel began anew
}

}  // namespace

IpvsServices::IpvsServices(Loop& loop, log::Log& log, World& world, const config::Config& resolved,
                           const std::string& state_directory)
    : loop_(loop),
      log_(log),
      world_(world),
      config_(resolved),
      owned_path_(state_directory.empty() ? "" : state_directory + "/ipvs-services") {}

IpvsServices::~IpvsServices() = default;

void IpvsServices::open() {
  if (!owned_path_.empty()) owned_ = ipvs::read_owned(owned_path_);
}

Result<void> IpvsServices::check(const config::Config& config) {
  if (available_ || (!any_in_kernel(config) && owned_.empty())) return {};
  const auto usable = kernel_.usable();
  available_ = static_cast<bool>(usable);
  if (available_) return {};
  std::string why = usable.error().text();
  if (began_ && !net::may_administer_network())
    why += "; it keeps only what its services needed at the start: restart it";
  for (const config::Service& service : config.services) {
    if (!in_kernel(service)) continue;
    if (service.forwarding_fallback == config::ForwardingFallback::error)
      return Error{"service " + service.name, why};
    log_.message(LogLevel::warning, "service {} is proxied instead: {}", service.name, why);
  }
  return {};
}

void IpvsServices::update(const std::vector<std::shared_ptr<const balance::Pool>>& pools) {
  if (!any_in_kernel(config_) && owned_.empty()) return;
  pools_ = pools;
  if (began_ && available_) keep();
}

void IpvsServices::begin() {
  began_ = true;
  if (available_) keep();
}

void IpvsServices::keep() {
  if (!std::exchange(keeping_, true)) take_over();
  raise_timeouts();
  follow();
  follow_sync();
  log_findings();
  look_soon();
}

/// What is in the kernel already: ours of an earlier run, or somebody's at an address that the
/// configuration gives to us.
void IpvsServices::take_over() {
  auto reading = kernel_.read();
  if (!reading) return say_once(reading.error().text());
  now_ = std::move(*reading);
  count(now_);
  unsigned ours = 0;
  for (const config::Service& service : config_.services) {
    if (!in_kernel(service)) continue;
    for (const Address& listen : service.listen) {
      const ipvs::ServiceKey key = ipvs::ServiceKey::of(listen);
      if (!now_.table.contains(key)) continue;
      ++ours;
      if (!owned_.contains(key))
        log_.message(LogLevel::warning,
                     "service {}: {} is in the kernel's table already, and not from us: taken over",
                     service.name, key.text());
    }
  }
  if (ours > 0)
    log_.message(LogLevel::info, "ip_vs: {} services taken over with {} active connections", ours,
                 active());
}

void IpvsServices::raise_timeouts() {
  const ipvs::Timeouts wanted = ipvs_timeouts(config_);
  if (wanted == timeouts_asked_) return;
  timeouts_asked_ = wanted;
  if (wanted.tcp_s == 0) return;
  auto now = kernel_.timeouts();
  if (!now) return say_once(now.error().text());
  // They are everybody's: others may rely on longer ones.
  ipvs::Timeouts set;
  if (now->tcp_s < wanted.tcp_s) set.tcp_s = wanted.tcp_s;
  if (now->tcp_fin_s < wanted.tcp_fin_s) set.tcp_fin_s = wanted.tcp_fin_s;
  if (set == ipvs::Timeouts{}) return;
  if (auto done = kernel_.set(set); !done) return say_once(done.error().text());
  log_.message(LogLevel::info, "ip_vs: timeouts raised from {} s to {} s, after a FIN {} s to {} s",
               now->tcp_s, std::max(now->tcp_s, set.tcp_s), now->tcp_fin_s,
               std::max(now->tcp_fin_s, set.tcp_fin_s));
}

/// Once for the same needs.
void IpvsServices::log_findings() {
  if (!any_in_kernel(config_)) return;
  ipvs::HostNeeds now = needs();
  if (now == needs_checked_) return;
  needs_checked_ = std::move(now);
  for (const ipvs::Finding& finding : doctor())
    log_.message(finding.error ? LogLevel::error : LogLevel::warning, "ip_vs: {}", finding.text());
}

ipvs::HostNeeds IpvsServices::needs() const {
  ipvs::HostNeeds needs;
  for (const config::Service& service : config_.services) {
    if (!in_kernel(service)) continue;
    const config::Pool& pool = config_.pools[service.pool];
    needs.nat = needs.nat || service.forwarding == config::Forwarding::ipvs_nat;
    needs.tunnel = needs.tunnel || service.forwarding == config::Forwarding::ipvs_tun;
    for (const Address& listen : service.listen) (listen.is_v6() ? needs.v6 : needs.v4) = true;
    needs.sticky = needs.sticky || pool.sticky;
    needs.removes = needs.removes || pool.on_down == config::OnDown::close;
    needs.schedulers.insert(settings_of(pool, false).scheduler);
  }
  return needs;
}

std::vector<ipvs::Finding> IpvsServices::doctor() const {
  return any_in_kernel(config_) ? ipvs::check_host(needs()) : std::vector<ipvs::Finding>{};
}

// ---- the table

void IpvsServices::follow() {
  apply(ipvs_table({.config = config_,
                    .pools = pools_,
                    .backends = world_.backends(),
                    .service_admin = std::as_const(world_).service_admin(),
                    .now = now_,
                    .stopping = stopping_},
                   owned_));
}

void IpvsServices::apply(const ipvs::Table& wanted) {
  wanted_ = wanted;
  // Ours is written down before it is made: a crash in between leaves nothing that nobody knows.
  std::set<ipvs::ServiceKey> both = keys_of(wanted_);
  both.insert(owned_.begin(), owned_.end());
  own(both);
  auto applied = ipvs::apply(kernel_, wanted_, now_.table, owned_);
  if (!applied) return say_once(applied.error().text());
  for (const ipvs::Change& change : applied->changes) {
    log_.message(LogLevel::debug, "ip_vs: {}", change.text());
    now_.table.erase(change.service);
    now_.use.erase(change.service);
    now_.traffic.erase(change.service);
  }
  now_.table.merge(applied->after.table);
  now_.use.merge(applied->after.use);
  now_.traffic.merge(applied->after.traffic);
  // Whoever waits for sessions to end goes by what is there after the change.
  if (!applied->changes.empty()) count(now_);
  if (applied->failures.empty()) {
    if (trouble_.empty() && !applied->repairs.empty()) log_repair(applied->repairs);
    trouble_.clear();
    own(keys_of(wanted_));
    return;
  }
  say_once(applied->failures.size() == 1 ? applied->failures[0]
                                         : fmt::format("{} (and {} more)", applied->failures[0],
                                                       applied->failures.size() - 1));
}

void IpvsServices::own(const std::set<ipvs::ServiceKey>& services) {
  if (services == owned_) return;
  owned_ = services;
  if (owned_path_.empty()) return;
  auto written = ipvs::write_owned(owned_path_, owned_);
  if (!written && std::exchange(owned_written_, false))
    log_.message(LogLevel::warning,
                 "{}; after a crash, services that the configuration no longer names stay in the "
                 "kernel's table",
                 written.error().text());
  if (written) owned_written_ = true;
}

void IpvsServices::look_soon() {
  if (std::exchange(look_armed_, true)) return;
  loop_.after(stopping_ ? kLookStopping : kLook, [this] {
    look_armed_ = false;
    look();
  });
}

void IpvsServices::look() {
  if (!keeping_ || !available_ || (!any_in_kernel(config_) && owned_.empty())) return;
  look_soon();
  auto reading = kernel_.read();
  if (!reading) return say_once(reading.error().text());
  count(*reading);
  const auto changed = ipvs::difference(wanted_, reading->table, owned_);
  now_ = std::move(*reading);
  follow_sync();
  if (!changed.empty()) {
    // What we failed to do before is no news.
    if (trouble_.empty()) log_repair(changed);
    apply(wanted_);
  }
  follow();
}

void IpvsServices::log_repair(const std::vector<ipvs::Change>& changes) {
  const auto now = Loop::Clock::now();
  if (repair_logged_ && now - *repair_logged_ < kRepairLogged) {
    ++repairs_left_out_;
    return;
  }
  log_.message(LogLevel::warning,
               "ip_vs: somebody changed our services; put right by {} changes, the first: {}{}",
               changes.size(), changes.front().text(),
               repairs_left_out_ == 0
                   ? ""
                   : fmt::format(" ({} times before it not logged)", repairs_left_out_));
  repair_logged_ = now;
  repairs_left_out_ = 0;
}

void IpvsServices::say_once(std::string trouble) {
  say_once(std::move(trouble), trouble_);
}

void IpvsServices::say_once(std::string trouble, std::string& said) {
  if (trouble == said) return;
  log_.message(LogLevel::error, "ip_vs: {}", trouble);
  said = std::move(trouble);
}

// ---- what it carries

void IpvsServices::count(const ipvs::Reading& reading) {
  for (auto& [pair, use] : totals_) {
    use.active = use.inactive = use.weight = 0;
    use.rates = {};
  }
  for (const config::Service& service : config_.services) {
    if (!in_kernel(service) || service.pool >= pools_.size()) continue;
    const ServiceId id = world_.service(service.name);
    const ipvs::Method method = method_of(service.forwarding);
    for (const Address& listen : service.listen) {
      const ipvs::ServiceKey key = ipvs::ServiceKey::of(listen);
      const auto there = reading.use.find(key);
      if (there == reading.use.end()) continue;
      for (const balance::Member& member : pools_[service.pool]->members()) {
        const Address address = destination_address(key, method, member.address);
        const auto found = there->second.find(address);
        if (found == there->second.end()) continue;
        const ipvs::Use& now = found->second;
        ipvs::Traffic& before = counted_[{key, address}];
        IpvsUse& total = totals_[{id.value, member.id.value}];
        total.service = id;
        total.backend = member.id;
        total.connections += since(before.connections, now.traffic.connections);
        total.bytes_to_backend += since(before.bytes_in, now.traffic.bytes_in);
        total.bytes_to_client += since(before.bytes_out, now.traffic.bytes_out);
        total.active += now.active;
        total.inactive += now.inactive;
        total.weight = reading.table.at(key).destinations.at(address).weight;
        total.rates += {.sessions = now.traffic.connections_per_s,
                        .bytes_to_client = now.traffic.bytes_out_per_s,
                        .bytes_to_backend = now.traffic.bytes_in_per_s};
        before = now.traffic;
      }
    }
  }
  active_of_service_.clear();
  active_of_backend_.clear();
  for (auto& [pair, total] : totals_) {
    // One that has just begun isn't active yet.
    if (total.connections > total.active)
      total.ended = std::max(total.ended, total.connections - total.active);
    active_of_service_[total.service.value] += total.active;
    active_of_backend_[total.backend.value] += total.active;
  }
}

std::vector<IpvsUse> IpvsServices::use() const {
  std::vector<IpvsUse> all;
  for (const auto& [pair, use] : totals_) all.push_back(use);
  return all;
}

std::uint32_t IpvsServices::active(BackendId backend) const {
  const auto at = active_of_backend_.find(backend.value);
  return at != active_of_backend_.end() ? at->second : 0;
}

std::uint32_t IpvsServices::active(ServiceId service) const {
  const auto at = active_of_service_.find(service.value);
  return at != active_of_service_.end() ? at->second : 0;
}

bool IpvsServices::carries(const config::Service& service) const {
  return available_ && in_kernel(service) &&
         std::any_of(service.listen.begin(), service.listen.end(), [this](const Address& listen) {
           return wanted_.contains(ipvs::ServiceKey::of(listen));
         });
}

std::uint64_t IpvsServices::active() const {
  std::uint64_t sum = 0;
  for (const auto& [key, destinations] : now_.use) {
    if (!owned_.contains(key)) continue;
    for (const auto& [address, use] : destinations) sum += use.active;
  }
  return sum;
}

// ---- the end

void IpvsServices::drain(std::set<Address> elsewhere) {
  stopping_ = true;
  elsewhere_ = std::move(elsewhere);
  if (!available_ || !began_) return;
  look();
  look_armed_ = false;
  look_soon();
}

bool IpvsServices::drained() const {
  if (!available_ || !began_) return true;
  return std::none_of(now_.use.begin(), now_.use.end(), [this](const auto& each) {
    const auto& [key, destinations] = each;
    Address address = key.address;
    address.port = 0;
    return owned_.contains(key) && !elsewhere_.contains(address) &&
           std::any_of(destinations.begin(), destinations.end(),
                       [](const auto& destination) { return destination.second.active > 0; });
  });
}

void IpvsServices::close() {
  if (!available_ || !began_) return;
  sync({});
  available_ = false;
  auto reading = kernel_.read();
  if (!reading) return say_once(reading.error().text());
  const auto left = ipvs::apply(kernel_, {}, reading->table, owned_);
  if (!left) return say_once(left.error().text());
  for (const std::string& failure : left->failures)
    log_.message(LogLevel::error, "ip_vs: {}", failure);
  if (left->failures.empty()) own({});
}

void IpvsServices::sync(std::vector<ipvs::SyncDaemon> wanted) {
  sync_wanted_ = std::move(wanted);
  if (keeping_) follow_sync();
}

void IpvsServices::follow_sync() {
  if (!available_ || (sync_wanted_.empty() && sync_started_.empty())) return;
  auto running = kernel_.daemons();
  if (!running) return say_once(running.error().text(), sync_trouble_);
  const auto has = [](const std::vector<ipvs::SyncDaemon>& all, const ipvs::SyncDaemon& one) {
    return std::find(all.begin(), all.end(), one) != all.end();
  };
  // Of the other direction and the same place: an earlier run's that was killed while it had the
  // other role.
  for (const ipvs::SyncDaemon& each : *running) {
    const bool in_the_way =
        std::any_of(sync_wanted_.begin(), sync_wanted_.end(), [&](const ipvs::SyncDaemon& other) {
          return other.master == each.master ||
                 (other.interface == each.interface && other.id == each.id);
        });
    if (has(sync_wanted_, each) || (!in_the_way && !has(sync_started_, each))) continue;
    if (auto done = kernel_.stop(each); !done) return say_once(done.error().text(), sync_trouble_);
  }
  for (const ipvs::SyncDaemon& each : sync_wanted_) {
    if (!has(*running, each))
      if (auto done = kernel_.start(each); !done)
        return say_once(done.error().text(), sync_trouble_);
    if (!has(sync_started_, each)) sync_started_.push_back(each);
  }
  sync_trouble_.clear();
  sync_started_ = sync_wanted_;
}

}  // namespace poise::control
