#include "control/commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "config/nearest.h"
#include "config/units.h"

namespace poise::control {

using config::LogLevel;
using std::chrono::milliseconds;

namespace {

std::string with_reason(const Commands::By& by) {
  return by.reason.empty() ? "" : fmt::format(" ({})", by.reason);
}

std::string verb_of(Admin admin) {
  switch (admin) {
    case Admin::enabled:
      return "enable";
    case Admin::draining:
      return "drain";
    case Admin::disabled:
      return "disable";
  }
  return "?";
}

std::string sessions_to_go(std::uint32_t sessions, milliseconds over) {
  if (sessions == 0) return "no session left";
  if (over.count() == 0) return fmt::format("{} sessions end by themselves", sessions);
  return fmt::format("{} sessions are let go within {}", sessions, config::format_duration(over));
}

}  // namespace

Commands::Commands(Ground ground)
    : ground_(std::move(ground)), started_(std::chrono::system_clock::now()), reloaded_(started_) {
  ground_.world.on_new_backend = [this](BackendStatus& status) {
    const OperatorStates::State* kept = ground_.states.find(status.path());
    if (kept == nullptr) return;
    status.admin = kept->admin;
    if (kept->weight && kept->weight_configured == status.weight_configured)
      status.weight_set = kept->weight;
  };
}

// ---- names ----

Error Commands::unknown(const std::string& kind, const std::string& name,
                        const std::vector<std::string>& known) const {
  return Error{"", fmt::format("no {} {}{}", kind, name, config::did_you_mean(name, known))};
}

Result<Commands::Targets> Commands::find(const std::string& target) const {
  Targets found;
  if (const BackendStatus* backend = ground_.world.backends().find(target)) {
    found.backends.push_back(backend->id);
    return found;
  }
  std::vector<std::string> known;
  constexpr std::string_view kHost = "host/";
  for (const BackendStatus& each : std::as_const(ground_.world).backends().all()) {
    if (!each.configured) continue;
    known.push_back(each.path());
    if (each.host.empty()) continue;
    const std::string host = std::string(kHost) + each.host;
    if (std::find(known.begin(), known.end(), host) == known.end()) known.push_back(host);
    if (host == target) found.backends.push_back(each.id);
  }
  if (!found.backends.empty()) return found;
  for (const config::Service& service : ground_.config.services) {
    known.push_back(service.name);
    if (service.name == target) found.service = target;
  }
  if (!found.service.empty()) return found;
  return unknown("backend, host or service", target, known);
}

bool Commands::Matcher::matches(const proxy::Session& session) const {
  if (session.state() == SessionState::free || session.state() == SessionState::closing)
    return false;
  return (id == 0 || session.id() == id) && (!service || session.service() == service) &&
         (!backend || session.backend() == backend) &&
         (!source || source->contains(session.client_address()));
}

Result<Commands::Matcher> Commands::matcher(const SessionFilter& filter) const {
  Matcher matcher;
  matcher.id = filter.id;
  matcher.source = filter.source;
  if (!filter.service.empty()) {
    const auto& ids = ground_.world.service_ids();
    const auto at = ids.find(filter.service);
    if (at == ids.end()) {
      std::vector<std::string> known;
      for (const auto& [name, id] : ids) known.push_back(name);
      return unknown("service", filter.service, known);
    }
    matcher.service = at->second;
  }
  if (!filter.backend.empty()) {
    std::vector<std::string> known;
    for (const BackendStatus& each : std::as_const(ground_.world).backends().all()) {
      known.push_back(each.path());
      if (each.path() == filter.backend && (!matcher.backend || each.configured))
        matcher.backend = each.id;
    }
    if (!matcher.backend) return unknown("backend", filter.backend, known);
  }
  return matcher;
}

// ---- the operator's states ----

std::uint32_t Commands::sessions_of(BackendId id) const {
  return ground_.registries.backends[id.value].sessions.load(std::memory_order_relaxed) +
         ground_.ipvs.active(id);
}

std::uint32_t Commands::sessions_of(ServiceId id) const {
  return ground_.registries.services[id.value].sessions.load(std::memory_order_relaxed) +
         ground_.ipvs.active(id);
}

void Commands::record(std::string kind, std::string object, std::string what, const By& by) {
  ground_.log.always("{} {}: {}{}{}", kind, object, what, with_reason(by),
                     by.user.empty() ? "" : " by " + by.user);
  ground_.events.add({.kind = std::move(kind),
                      .object = std::move(object),
                      .what = std::move(what),
                      .reason = by.reason,
                      .user = by.user});
}

void Commands::remember(const std::string& name, const BackendStatus* backend,
                        std::optional<WallTime> decided) {
  OperatorStates::State state;
  if (const OperatorStates::State* before = ground_.states.find(name))
    state.changed = before->changed;
  if (decided) state.changed = *decided;
  if (backend != nullptr) {
    state.admin = backend->admin;
    state.weight = backend->weight_set;
    state.weight_configured = backend->weight_configured;
  } else if (const auto at = ground_.world.service_admin().find(name);
             at != ground_.world.service_admin().end()) {
    state.admin = at->second;
  }
  ground_.states.set(name, std::move(state));
}

void Commands::save() {
  if (auto saved = ground_.states.save(); !saved)
    ground_.log.limited(kLogStates, LogLevel::warning,
                        "operators' decisions will not survive a restart: {}",
                        saved.error().text());
}

Commands::Said Commands::set_admin(const std::string& target, Admin admin, milliseconds over,
                                   const By& by) {
  const auto targets = find(target);
  if (!targets) return targets.error();
  ground_.ipvs.look();  // how many sessions are to go
  const WallTime now = std::chrono::system_clock::now();
  std::vector<std::string> said;
  if (!targets->service.empty()) {
    said.push_back(set_service(targets->service, admin, over, by, now));
    ground_.pair.decided(targets->service);
  }
  for (const BackendId id : targets->backends) {
    said.push_back(set_backend(id, admin, over, by, now));
    ground_.pair.decided(ground_.world.backends().at(id).path());
  }
  ground_.publish();
  save();
  return said;
}

std::string Commands::set_backend(BackendId id, Admin admin, milliseconds over, const By& by,
                                  WallTime when) {
  BackendStatus& backend = ground_.world.backends().at(id);
  backend.admin = {.admin = admin, .reason = by.reason, .user = by.user, .since = when};
  ground_.drains.cancel({.backend = id, .service = {}});
  remember(backend.path(), &backend, when);
  std::string what = fmt::format("{}", name_of(admin));
  if (admin != Admin::enabled) {
    what += ", " + sessions_to_go(sessions_of(id), over);
    begin_drain(id, over);
  }
  record(verb_of(admin), backend.path(), what, by);
  return backend.path() + ": " + what;
}

std::string Commands::set_service(const std::string& name, Admin admin, milliseconds over,
                                  const By& by, WallTime when) {
  auto& states = ground_.world.service_admin();
  const ServiceId id = ground_.world.service(name);
  if (admin == Admin::enabled)
    states.erase(name);
  else
    states[name] = {.admin = admin, .reason = by.reason, .user = by.user, .since = when};
  ground_.drains.cancel({.backend = {}, .service = id});
  remember(name, nullptr, when);
  std::string what = fmt::format("{}", name_of(admin));
  if (admin != Admin::enabled) {
    what += ", " + sessions_to_go(sessions_of(id), over);
    begin_drain(name, over);
  }
  record(verb_of(admin), name, what, by);
  return name + ": " + what;
}

/// What drains ends in disabled.
void Commands::begin_drain(BackendId id, milliseconds over) {
  ground_.drains.begin({.backend = id, .service = {}},
                       {.sessions = [this, id] { return sessions_of(id); },
                        .over = over,
                        .finished =
                            [this, id] {
                              BackendStatus& backend = ground_.world.backends().at(id);
                              if (backend.admin.admin != Admin::draining) return;
                              backend.admin.admin = Admin::disabled;
                              remember(backend.path(), &backend);
                              record("drained", backend.path(), "no session left, disabled", {});
                              ground_.publish();
                              save();
                            }});
}

void Commands::begin_drain(const std::string& service, milliseconds over) {
  const ServiceId id = ground_.world.service(service);
  ground_.drains.begin({.backend = {}, .service = id},
                       {.sessions = [this, id] { return sessions_of(id); },
                        .over = over,
                        .finished =
                            [this, service] {
                              auto& states = ground_.world.service_admin();
                              const auto at = states.find(service);
                              if (at == states.end() || at->second.admin != Admin::draining) return;
                              at->second.admin = Admin::disabled;
                              remember(service, nullptr);
                              record("drained", service, "no session left, disabled", {});
                              save();
                            }});
}

Commands::Said Commands::set_weight(const std::string& path, std::optional<unsigned> weight,
                                    const By& by) {
  constexpr unsigned kWeightMax = 256;
  const auto targets = find(path);
  if (!targets) return targets.error();
  if (!targets->service.empty()) return Error{"", path + " is a service; backends have weights"};
  if (weight && *weight > kWeightMax)
    return Error{"", fmt::format("{} is not 0..{}", *weight, kWeightMax)};
  std::vector<std::string> said;
  for (const BackendId id : targets->backends) {
    BackendStatus& backend = ground_.world.backends().at(id);
    const unsigned before = backend.weight();
    backend.weight_set = weight;
    remember(backend.path(), &backend, std::chrono::system_clock::now());
    ground_.pair.decided(backend.path());
    std::string what =
        fmt::format("weight {} -> {}{}", before, backend.weight(), weight ? "" : ", as configured");
    record("weight", backend.path(), what, by);
    said.push_back(backend.path() + ": " + what);
  }
  ground_.publish();
  save();
  return said;
}

void Commands::restore() {
  if (auto loaded = ground_.states.load(); !loaded)
    ground_.log.message(LogLevel::warning,
                        "what operators had decided before the restart is not known: {}",
                        loaded.error().text());
  restore_services();
  for (const Ban& over : ground_.states.bans().expire(std::chrono::system_clock::now()))
    record("ban_over", over.network.text(), "its time ended before this start", {});
  ground_.world.set_bans(ground_.states.bans().networks());
}

/// Of those configured; backends get theirs when they enter the table.
void Commands::restore_services() {
  for (const config::Service& service : ground_.config.services)
    if (const OperatorStates::State* kept = ground_.states.find(service.name);
        kept != nullptr && kept->admin.admin != Admin::enabled)
      ground_.world.service_admin()[service.name] = kept->admin;
}

void Commands::resume() {
  keep_history();
  await_ban_end();
  for (const BackendStatus& each : std::as_const(ground_.world).backends().all())
    if (each.admin.admin == Admin::draining) begin_drain(each.id, milliseconds(0));
  for (const auto& [name, state] : std::as_const(ground_.world).service_admin())
    if (state.admin == Admin::draining) begin_drain(name, milliseconds(0));
}

// ---- bans ----

std::vector<Ban> Commands::bans() const {
  std::vector<Ban> all;
  for (const auto& [network, ban] : ground_.states.bans().all()) all.push_back(ban);
  return all;
}

Commands::Said Commands::ban(const Network& network, milliseconds lasts, const By& by) {
  const WallTime now = std::chrono::system_clock::now();
  Ban ban{.network = network, .since = now, .until = {}, .reason = by.reason, .user = by.user};
  if (lasts.count() > 0) ban.until = now + lasts;
  if (auto added = ground_.states.bans().add(std::move(ban)); !added) return added.error();
  const std::string what =
      lasts.count() > 0 ? "banned for " + config::format_duration(lasts) : "banned";
  record("ban", network.text(), what, by);
  ground_.pair.decided(network);
  publish_bans();
  return std::vector<std::string>{network.text() + ": " + what};
}

Commands::Said Commands::unban(const Network& network, const By& by) {
  if (!ground_.states.bans().remove(network)) {
    const Ban* wider = ground_.states.bans().of(network.base);
    return Error{"", fmt::format("no ban {}{}", network.text(),
                                 wider == nullptr ? std::string()
                                                  : "; it lies in " + wider->network.text())};
  }
  ground_.states.bans().remember_lifted({.network = network,
                                         .since = std::chrono::system_clock::now(),
                                         .until = {},
                                         .reason = by.reason,
                                         .user = by.user});
  record("unban", network.text(), "served again", by);
  ground_.pair.decided(network);
  publish_bans();
  return std::vector<std::string>{network.text() + ": served again"};
}

void Commands::publish_bans() {
  ground_.world.set_bans(ground_.states.bans().networks());
  ground_.publish();
  save();
  await_ban_end();
}

/// One timer, to the end of the ban that ends first.
void Commands::await_ban_end() {
  const auto end = ground_.states.bans().next_end();
  const std::uint64_t timer = ++ban_timer_;
  if (!end) return;
  // Wall time may jump: the timer comes up at least once a minute.
  constexpr milliseconds kLook{60'000};
  const auto left = std::chrono::ceil<milliseconds>(*end - std::chrono::system_clock::now());
  ground_.loop.after(std::clamp(left, milliseconds(0), kLook), [this, timer] {
    if (timer != ban_timer_) return;
    const auto over = ground_.states.bans().expire(std::chrono::system_clock::now());
    for (const Ban& each : over) record("ban_over", each.network.text(), "served again", {});
    return over.empty() ? await_ban_end() : publish_bans();
  });
}

// ---- sessions ----

void Commands::sessions(const SessionFilter& filter, std::size_t at_most,
                        std::function<void(Result<SessionList>)> answer) {
  const auto wanted = matcher(filter);
  if (!wanted) return answer(wanted.error());
  auto all = std::make_shared<SessionList>();
  auto left = std::make_shared<std::size_t>(ground_.workers.size());
  const auto deliver = [this, all, left, at_most, answer](
                           const std::vector<proxy::SessionLook>& looks, std::uint64_t matching) {
    all->matching += matching;
    for (const proxy::SessionLook& look : looks) {
      if (all->sessions.size() == at_most) break;
      SessionView view;
      view.id = look.id;
      view.client = look.client;
      view.vip = look.vip;
      view.service = ground_.log.names().service(look.service);
      if (look.backend) view.backend = ground_.log.names().backend_path(look.backend);
      view.state = look.state;
      view.age = std::chrono::duration_cast<std::chrono::seconds>(look.age);
      view.bytes_to_client = look.bytes_to_client;
      view.bytes_to_backend = look.bytes_to_backend;
      view.client_spoke_last = look.client_spoke_last;
      all->sessions.push_back(std::move(view));
    }
    if (--*left == 0) answer(std::move(*all));
  };
  Loop& loop = ground_.loop;
  ground_.workers.post(proxy::Visit{[matcher = *wanted, at_most, deliver, &loop](
                                        proxy::Core& core, std::span<proxy::Session> sessions) {
    std::vector<proxy::SessionLook> looks;
    std::uint64_t matching = 0;
    for (const proxy::Session& session : sessions) {
      if (!matcher.matches(session)) continue;
      if (++matching <= at_most) looks.push_back(session.look(core));
    }
    loop.post([deliver, looks = std::move(looks), matching] { deliver(looks, matching); });
  }});
}

void Commands::kick(const SessionFilter& filter, const By& by,
                    std::function<void(Result<std::uint64_t>)> answer) {
  if (filter.id == 0 && filter.service.empty() && filter.backend.empty() && !filter.source)
    return answer(Error{"", "name a session, --backend, --source or --service"});
  const auto wanted = matcher(filter);
  if (!wanted) return answer(wanted.error());
  auto ended = std::make_shared<std::uint64_t>(0);
  auto left = std::make_shared<std::size_t>(ground_.workers.size());
  std::string object = filter.id != 0 ? fmt::format("session {}", filter.id) : "";
  for (const std::string& each :
       {filter.service, filter.backend, filter.source ? filter.source->text() : std::string()})
    if (!each.empty()) object += (object.empty() ? "" : " ") + each;
  const auto deliver = [this, ended, left, object, by, answer](std::uint64_t count) {
    *ended += count;
    if (--*left > 0) return;
    record("kick", object, fmt::format("{} sessions ended", *ended), by);
    answer(*ended);
  };
  Loop& loop = ground_.loop;
  ground_.workers.post(proxy::Visit{
      [matcher = *wanted, deliver, &loop](proxy::Core& core, std::span<proxy::Session> sessions) {
        std::uint64_t count = 0;
        for (proxy::Session& session : sessions) {
          if (!matcher.matches(session)) continue;
          session.close(core, CloseReason::kicked);
          ++count;
        }
        loop.post([deliver, count] { deliver(count); });
      }});
}

void Commands::shutdown(const By& by) {
  record("shutdown", "poised", "asked to stop", by);
  ground_.shutdown(
      fmt::format("poisectl shutdown by {}{}", by.user.empty() ? "?" : by.user, with_reason(by)));
}

}  // namespace poise::control
