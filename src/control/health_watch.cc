#include "control/health_watch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "health/addresses.h"
#include "poise/check.h"

namespace poise::control {
namespace {

using config::LogLevel;
using std::chrono::milliseconds;

constexpr std::size_t kPasswordBytesMax = 1024;
constexpr milliseconds kRampStep{1000};
constexpr double kRampFirst = 0.1;

/// Tells this machine from another with the same configuration.
std::string node_name() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  std::string id;
  std::getline(std::ifstream("/etc/machine-id"), id);
  return std::string(host.data()) + "/" + id;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Result<std::string> read_password(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string password;
  if (!file || !std::getline(file, password))
    return Error{path,
                 "cannot be read, or is empty: it must hold the password in its first line, "
                 "readable by the user poised runs as"};
  if (!password.empty() && password.back() == '\r') password.pop_back();
  if (password.empty() || password.size() > kPasswordBytesMax)
    return Error{
        path, fmt::format("its first line must be a password of 1 to {} bytes", kPasswordBytesMax)};
  return password;
}

}  // namespace

HealthWatch::HealthWatch(Loop& loop, log::Log& log, World& world,
                         const proxy::Registries& registries, Hooks hooks)
    : loop_(loop),
      log_(log),
      world_(world),
      registries_(registries),
      hooks_(std::move(hooks)),
      monitor_(
          {.node = node_name(),
           .dns_servers = environment("POISE_DNS_SERVERS"),
           .caps = {},
           .make_prober = {}},
          {.health =
               [this](HealthEvent event) {
                 loop_.post([this, event = std::move(event)] { on_health(event); });
               },
           .alert = [this](LogLevel level, std::string text) { log_.message(level, "{}", text); },
           .addresses =
               [this](std::string name, std::vector<Address> addresses) {
                 loop_.post(
                     [this, name = std::move(name), addresses = std::move(addresses)]() mutable {
                       on_addresses(name, std::move(addresses));
                     });
               },
           .moved = [this](BackendId backend) { return moved(backend); }}) {}

HealthWatch::~HealthWatch() = default;

Result<void> HealthWatch::start() {
  loop_.after(health::TransitionLog::kWindow, [this] { log_left_out(); });
  return monitor_.start();
}

void HealthWatch::stop() {
  monitor_.stop();
}

// ---- what to watch

Result<void> HealthWatch::configure(const config::Config& config) {
  std::map<std::string, std::string> passwords;
  std::map<std::string, std::vector<Address>> names;
  for (const config::Pool& pool : config.pools) {
    const config::ProbeDeep& deep = pool.probe.deep;
    if (deep.enabled && !deep.login_password_file.empty()) {
      auto password = read_password(deep.login_password_file);
      if (!password) return Error{"pool " + pool.name + ", password_file", password.error().text()};
      passwords[pool.name] = std::move(*password);
    }
    for (const config::Backend& backend : pool.backends)
      if (!backend.literal) names[backend.host_name];
  }
  for (auto& [name, addresses] : names)
    if (const auto known = names_.find(name); known != names_.end()) addresses = known->second;
  names_ = std::move(names);
  passwords_ = std::move(passwords);
  std::vector<std::string> wanted;
  for (const auto& [name, addresses] : names_) wanted.push_back(name);
  monitor_.set_names(std::move(wanted));
  return {};
}

config::Config HealthWatch::resolve(const config::Config& config) const {
  config::Config resolved = config;
  for (config::Pool& pool : resolved.pools) {
    std::vector<config::Backend> backends;
    for (const config::Backend& backend : pool.backends) {
      const auto known = backend.literal ? names_.end() : names_.find(backend.host_name);
      if (known == names_.end() || known->second.empty()) {
        backends.push_back(backend);
        continue;
      }
      std::size_t position = 0;
      for (Address address : known->second) {
        address.port = backend.port;
        config::Backend& each = backends.emplace_back(backend);
        each.name = health::expanded_name(backend.name, address, position++);
        each.literal = address;
      }
    }
    pool.backends = std::move(backends);
  }
  return resolved;
}

void HealthWatch::watch(const config::Config& resolved) {
  std::vector<health::Target> targets;
  pools_.clear();
  checking_.clear();
  for (const config::Pool& pool : resolved.pools) {
    pools_[pool.name] = pool;
    for (const config::Backend& backend : pool.backends) {
      health::Target target;
      const BackendStatus* const known = world_.backends().find(pool.name + "/" + backend.name);
      CHECK(known != nullptr);
      const BackendStatus& status = *known;
      target.id = status.id;
      target.pool_id = status.pool;
      target.pool = pool.name;
      target.name = backend.name;
      if (backend.literal) target.address = *backend.literal;
      target.greeted_ms = &registries_.backends[target.id.value].good_greeting_ms;
      target.host = backend.host;
      target.probe = pool.probe;
      target.probe.interval = std::max(target.probe.interval, pace_);
      target.probe.down_interval = std::max(target.probe.down_interval, pace_);
      target.passive = pool.passive;
      target.slow_start = pool.slow_start;
      target.when_all_down = pool.when_all_down;
      target.send_proxy = pool.send_proxy;
      for (const Address& source : pool.source_address.addresses)
        if (source.family == target.address.family && !target.source_address)
          target.source_address = source;
      target.hostname = resolved.hostname;
      if (const auto password = passwords_.find(pool.name); password != passwords_.end())
        target.login_password = password->second;
      if (target.probed() && status.health == Health::checking) checking_.insert(target.id.value);
      targets.push_back(std::move(target));
    }
  }
  std::map<std::uint32_t, std::vector<std::uint32_t>> pairs;
  for (std::uint32_t pair = 0; pair < world_.pairs().size(); ++pair)
    if (const BackendId backend = world_.pairs()[pair].backend)
      pairs[backend.value].push_back(pair);
  {
    const std::lock_guard lock(pairs_mutex_);
    pairs_ = std::move(pairs);
  }
  monitor_.set_targets(std::move(targets));
}

/// Health thread.
std::uint64_t HealthWatch::moved(BackendId backend) const {
  const std::lock_guard lock(pairs_mutex_);
  const auto at = pairs_.find(backend.value);
  if (at == pairs_.end()) return 0;
  std::uint64_t bytes = 0;
  for (const std::uint32_t pair : at->second) bytes += hooks_.moved(pair);
  return bytes;
}

bool HealthWatch::settled() const {
  return checking_.empty() && std::none_of(names_.begin(), names_.end(),
                                           [](const auto& each) { return each.second.empty(); });
}

void HealthWatch::on_addresses(const std::string& name, std::vector<Address> addresses) {
  const auto at = names_.find(name);
  if (at == names_.end()) return;
  at->second = std::move(addresses);
  hooks_.renamed();
}

// ---- what it concludes

void HealthWatch::failed_try(BackendId backend, TryOutcome outcome, std::uint64_t prefix) {
  const auto passive = [&](ProbeOutcome kind) {
    monitor_.passive({.backend = backend, .kind = kind, .prefix = prefix});
  };
  switch (outcome) {
    case TryOutcome::refused:
      return passive(ProbeOutcome::refused);
    case TryOutcome::unreachable:
      return passive(ProbeOutcome::unreachable);
    case TryOutcome::timeout:
      return passive(ProbeOutcome::timeout);
    case TryOutcome::reset:
    case TryOutcome::closed:
    case TryOutcome::silent:
    case TryOutcome::busy:
    case TryOutcome::garbage:
      return monitor_.probe_soon(backend);  // a client may be the cause: look for ourselves
    case TryOutcome::ok:
    case TryOutcome::rejected:
    case TryOutcome::local:
      return;
  }
}

void HealthWatch::on_health(const HealthEvent& event) {
  BackendStatus& status = world_.backends().at(event.backend);
  status.health = event.health;
  status.health_reason = event.reason;
  status.health_since = std::chrono::system_clock::now();
  status.takes_new = !event.no_new;
  status.hinted_down = false;
  checking_.erase(event.backend.value);
  if (event.health == Health::recovering) {
    status.ramp = kRampFirst;
    ramps_[event.backend.value] = Loop::Clock::now();
    if (!std::exchange(ramp_armed_, true)) loop_.after(kRampStep, [this] { ramp(); });
  } else {
    status.ramp = 1;
    ramps_.erase(event.backend.value);
  }
  log_change(event, status);
  hooks_.changed();
  if (event.health == Health::down && event.before != Health::down)
    if (const auto pool = pools_.find(status.pool_name); pool != pools_.end())
      hooks_.went_down(event.backend, pool->second.on_down);
  if (event.before == Health::down && event.health != Health::down) hooks_.came_back(event.backend);
}

void HealthWatch::log_change(const HealthEvent& event, const BackendStatus& status) {
  const bool first_good = event.before == Health::checking && event.health != Health::down;
  const LogLevel level = first_good                     ? LogLevel::debug
                         : event.health == Health::down ? LogLevel::warning
                                                        : LogLevel::info;
  // The first good verdict is no change to speak of: it takes nothing of what may be logged.
  const auto left_out = first_good ? std::optional<unsigned>(0)
                                   : changes_[event.backend.value].admit(Loop::Clock::now());
  if (!left_out) return;
  const std::string change =
      event.before == event.health
          ? std::string(name_of(event.health))
          : fmt::format("{} -> {}", name_of(event.before), name_of(event.health));
  if (!first_good) hooks_.happened(status, change, event.reason);
  if (!log_.enabled(level)) return;
  log_.message(
      level, "backend {} {}: {}{}", status.path(), change, event.reason,
      *left_out == 0 ? "" : fmt::format(" ({} changes before it are not logged)", *left_out));
}

void HealthWatch::log_left_out() {
  for (auto& [id, changes] : changes_) {
    const unsigned left_out = changes.overdue(Loop::Clock::now());
    if (left_out == 0) continue;
    const BackendStatus& status = world_.backends().at(BackendId{id});
    log_.message(LogLevel::warning, "backend {} changed {} times more than was logged; now {}: {}",
                 status.path(), left_out, name_of(status.health), status.health_reason);
  }
  loop_.after(health::TransitionLog::kWindow, [this] { log_left_out(); });
}

/// One step of every slow start; at most once a second, whatever their number.
void HealthWatch::ramp() {
  ramp_armed_ = false;
  bool changed = false;
  for (const auto& [id, since] : ramps_) {
    BackendStatus& status = world_.backends().at(BackendId{id});
    const auto pool = pools_.find(status.pool_name);
    if (pool == pools_.end() || pool->second.slow_start.count() <= 0) continue;
    const std::chrono::duration<double> passed = Loop::Clock::now() - since,
                                        whole = pool->second.slow_start;
    // In tenths: a pool is not built anew for less.
    const double share = std::floor(10 * passed / whole) / 10;
    const double next = std::clamp(share, kRampFirst, 1.0);
    changed = changed || next != status.ramp;
    status.ramp = next;
  }
  if (changed) hooks_.changed();
  if (!ramps_.empty() && !std::exchange(ramp_armed_, true))
    loop_.after(kRampStep, [this] { ramp(); });
}

}  // namespace poise::control
