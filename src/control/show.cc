#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include "config/nearest.h"
#include "config/print.h"
#include "control/commands.h"
#include "net/limits.h"

/// The commands that look and change nothing.
namespace poise::control {

using std::chrono::milliseconds;

namespace {

double unix_seconds(WallTime time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

bool takes_sessions(const BackendStatus& backend) {
  return backend.admin.admin == Admin::enabled && backend.weight() > 0 &&
         backend.health != Health::down;
}

std::string count_of(std::size_t count, std::string_view one) {
  return fmt::format("{} {}{}", count, one, count == 1 ? "" : "s");
}

/// For a sentence about a backend.
std::string brakes_of(const balance::Brakes& brakes, std::chrono::nanoseconds now) {
  const auto now_ms = std::chrono::duration_cast<milliseconds>(now).count();
  std::string out;
  if (brakes.paused(now_ms)) out += "; paused: clients in a row got no greeting there";
  if (const std::uint32_t pending = brakes.pending(); pending > 0)
    out += fmt::format("; {} wait for its greeting{}", pending,
                       pending >= balance::Brakes::kPendingMax ? ", which is the limit" : "");
  return out;
}

}  // namespace

/// One pass over all counters: by service and by backend.
Commands::Totals Commands::totals() const {
  Totals totals;
  totals.services.resize(ground_.world.services());
  totals.backends.resize(std::as_const(ground_.world).backends().all().size());
  const auto& pairs = ground_.world.pairs();
  for (std::uint32_t pair = 0; pair < pairs.size(); ++pair) {
    const PairSums sum = ground_.workers.sums(pair);
    totals.services[pairs[pair].service.value] += sum;
    if (pairs[pair].backend) totals.backends[pairs[pair].backend.value] += sum;
  }
  for (const IpvsUse& use : ground_.ipvs.use()) {
    const PairSums sum{.sessions = use.ended,
                       .to_client = use.bytes_to_client,
                       .to_backend = use.bytes_to_backend};
    totals.services[use.service.value] += sum;
    totals.backends[use.backend.value] += sum;
    totals.service_rates[use.service.value] += use.rates;
    totals.backend_rates[use.backend.value] += use.rates;
  }
  return totals;
}

/// Again and again: what History::kInterval added.
void Commands::keep_history() {
  const Totals now = totals();
  const auto begun = [this](const std::vector<PairSums>& sums, auto id) {
    std::vector<std::uint64_t> all(sums.size());
    for (; id.value < sums.size(); ++id.value)
      all[id.value] = sums[id.value].sessions + sessions_of(id);
    return all;
  };
  service_history_.add(begun(now.services, ServiceId{0}));
  backend_history_.add(begun(now.backends, BackendId{0}));
  ground_.loop.after(History::kInterval, [this] { keep_history(); });
}

HistoryView Commands::history() const {
  HistoryView view{.interval = History::kInterval, .services = {}, .backends = {}};
  for (const config::Service& service : ground_.config.services)
    view.services.emplace_back(service.name,
                               service_history_.of(ground_.world.service(service.name).value));
  for (const BackendStatus& each : std::as_const(ground_.world).backends().all())
    if (each.configured)
      view.backends.emplace_back(each.path(), backend_history_.of(each.id.value));
  return view;
}

std::vector<BackendView> Commands::backends() const {
  const BackendTable& table = std::as_const(ground_.world).backends();
  const Totals sums = totals();
  std::vector<BackendView> views;
  for (const config::Pool& pool : ground_.resolved.pools) {
    for (const config::Backend& backend : pool.backends) {
      const BackendStatus* const status = table.find(pool.name + "/" + backend.name);
      if (status == nullptr) continue;
      const PairSums& sum = sums.backends[status->id.value];
      BackendView view;
      view.pool = pool.name;
      view.name = status->name;
      view.host = status->host;
      view.address = status->address;
      view.state = status->state();
      view.admin = name_of(status->admin.admin);
      view.weight = status->weight();
      view.weight_configured = status->weight_configured;
      view.tier = backend.tier;
      view.max_sessions = backend.max_sessions;
      view.sessions = sessions_of(status->id);
      view.sessions_total = sum.sessions;
      view.bytes_to_client = sum.to_client;
      view.bytes_to_backend = sum.to_backend;
      if (const auto rates = sums.backend_rates.find(status->id.value);
          rates != sums.backend_rates.end())
        view.rates = rates->second;
      view.retries = sum.retries;
      const bool decided = status->admin.admin != Admin::enabled;
      view.reason = decided ? status->admin.reason : status->health_reason;
      view.user = decided ? status->admin.user : "";
      view.since = decided ? status->admin.since : status->health_since;
      if (const auto* drain = ground_.drains.find({.backend = status->id, .service = {}});
          drain != nullptr && drain->over.count() > 0)
        view.closing_for = std::max(
            std::chrono::seconds(0),
            std::chrono::duration_cast<std::chrono::seconds>(drain->until - Loop::Clock::now()));
      views.push_back(std::move(view));
    }
  }
  return views;
}

std::vector<ServiceView> Commands::services() const {
  const auto& admin = std::as_const(ground_.world).service_admin();
  Totals sums = totals();
  struct Count {
    unsigned all = 0, up = 0;
  };
  std::map<std::string_view, Count> of_pool;
  for (const BackendStatus& backend : std::as_const(ground_.world).backends().all()) {
    if (!backend.configured) continue;
    Count& count = of_pool[backend.pool_name];
    ++count.all;
    count.up += takes_sessions(backend);
  }
  std::map<std::string_view, std::vector<Address>> listen;
  for (const Listeners::Open& open : ground_.listeners.open())
    listen[open.service].push_back(open.address);

  std::vector<ServiceView> views;
  for (const config::Service& service : ground_.config.services) {
    const ServiceId id = ground_.world.service(service.name);
    ServiceView view;
    view.name = service.name;
    view.protocol = poise::name_of(service.protocol);
    view.pool = ground_.config.pools[service.pool].name;
    const bool carried = ground_.ipvs.carries(service);
    view.forwarding = name_of(carried ? service.forwarding : config::Forwarding::proxy);
    view.listen = carried ? service.listen : listen[service.name];
    view.admin = name_of(Admin::enabled);
    if (const auto at = admin.find(service.name); at != admin.end()) {
      view.admin = name_of(at->second.admin);
      view.reason = at->second.reason;
      view.user = at->second.user;
    }
    view.sessions = sessions_of(id);
    view.max_sessions = service.limits.sessions;
    view.sessions_total = sums.services[id.value].sessions;
    view.bytes_to_client = sums.services[id.value].to_client;
    view.bytes_to_backend = sums.services[id.value].to_backend;
    if (carried) view.rates = sums.service_rates[id.value];
    for (std::size_t worker = 0; worker < ground_.workers.size(); ++worker) {
      const ServiceCounters& counters = ground_.workers.counters(worker).services[id.value];
      for (const Counter& counter : counters.refusals) view.refusals += counter.get();
      view.early_talkers += counters.early_talkers.get();
    }
    view.backends = of_pool[view.pool].all;
    view.backends_up = of_pool[view.pool].up;
    views.push_back(std::move(view));
  }
  return views;
}

std::string Commands::config_text() const {
  return config::print_config(ground_.config);
}

std::vector<Event> Commands::events(std::chrono::seconds since) const {
  const WallTime from = std::chrono::system_clock::now() - since;
  std::vector<Event> out;
  for (const Event& event : ground_.events.all())
    if (since.count() == 0 || event.time >= from) out.push_back(event);
  return out;
}

StatusView Commands::status() const {
  StatusView view;
  view.version = ground_.version;
  view.hostname = ground_.config.hostname;
  view.config_path = ground_.config_path;
  view.pid = ::getpid();
  view.started = started_;
  view.reloaded = reloaded_;
  view.reload_error = reload_error_;
  view.reloads = reloads_;
  view.reloads_failed = reloads_failed_;
  view.workers = ground_.workers.size();
  const std::uint64_t proxied = ground_.registries.sessions.load(std::memory_order_relaxed);
  view.sessions = static_cast<std::uint32_t>(proxied + ground_.ipvs.active());
  view.sessions_max = ground_.registries.sessions_max;
  view.stopping = ground_.stopping();

  const auto problem = [&view](Verdict verdict, std::string text) {
    view.verdict = std::max(view.verdict, verdict);
    view.problems.push_back(std::move(text));
  };
  const std::vector<ServiceView> all = services();
  std::size_t flowing = 0;
  for (const ServiceView& service : all) {
    view.sessions_total += service.sessions_total;
    if (service.admin != name_of(Admin::enabled))
      problem(Verdict::warning, fmt::format("service {} is {}", service.name, service.admin));
    else if (service.backends_up == 0)
      problem(Verdict::critical, fmt::format("service {} has no backend", service.name));
    else
      ++flowing;
    if (service.max_sessions > 0 && service.sessions * 10ull >= service.max_sessions * 9ull)
      problem(Verdict::warning, fmt::format("service {} has {} of {} sessions", service.name,
                                            service.sessions, service.max_sessions));
  }
  std::size_t count = 0, up = 0;
  for (const BackendStatus& backend : std::as_const(ground_.world).backends().all()) {
    if (!backend.configured) continue;
    ++count;
    if (takes_sessions(backend)) {
      ++up;
      continue;
    }
    const std::string_view state = backend.weight() == 0 && backend.admin.admin == Admin::enabled
                                       ? "of weight 0"
                                       : backend.state();
    problem(Verdict::warning, fmt::format("backend {} is {}", backend.path(), state));
  }
  if (!reload_error_.empty())
    problem(Verdict::warning, "the last reload changed nothing: " + reload_error_);
  if (proxied * 10 >= view.sessions_max * 9ull)
    problem(Verdict::warning,
            fmt::format("{} of {} sessions that descriptors allow", proxied, view.sessions_max));
  if (view.stopping) problem(Verdict::critical, "poised is stopping");
  view.pair = ground_.pair.view();
  if (view.pair) {
    const PairView& pair = *view.pair;
    if (!pair.linked)
      problem(Verdict::warning,
              fmt::format("no link to the other box {}: {}", pair.peer, pair.trouble));
    else if (!pair.in_sync)
      problem(Verdict::warning, fmt::format("{} does not know all that we know yet", pair.peer));
    if (pair.linked && !pair.same_config)
      problem(Verdict::warning,
              fmt::format("{} runs another configuration: poisectl pair diff", pair.peer));
    for (const std::string& each : pair.faults)
      problem(Verdict::critical, "this box may not have the addresses: " + each);
    if (pair.role == "unknown")
      problem(Verdict::warning,
              "keepalived does not run, or not with the file that `poisectl "
              "vrrp-config` makes");
    if (pair.both_masters) problem(Verdict::critical, "both boxes have the addresses");
    if (pair.skew_seconds != 0)
      problem(Verdict::warning,
              fmt::format("the clock of {} is {:+.1f} s from ours", pair.peer, pair.skew_seconds));
  }

  view.sentence =
      fmt::format("{}: {} of {} served, {} of {} take sessions, {} open",
                  view.stopping                 ? "Mail is coming to a stop"
                  : flowing == 0                ? "No mail flows"
                  : flowing < all.size()        ? "Some mail flows"
                  : view.verdict == Verdict::ok ? "Mail flows"
                                                : "Mail flows, with something to look at",
                  flowing, count_of(all.size(), "service"), up, count_of(count, "backend"),
                  count_of(view.sessions, "session"));
  return view;
}

/// What the service's limits on rates and sources say of a client; true: they refuse it.
bool Commands::why_limits(const config::Service& service, const Address& client,
                          std::vector<std::string>& steps) const {
  const config::Limits& limits = service.limits;
  const bool any = limits.rate.per_second > 0 || limits.sessions_per_source > 0 ||
                   limits.rate_per_source.per_second > 0;
  if (!any) return false;
  const auto excepted = std::find_if(limits.except.begin(), limits.except.end(),
                                     [&](const auto& each) { return each.contains(client); });
  if (excepted != limits.except.end()) {
    steps.push_back(fmt::format("limits of rate and source do not apply: {} is in \"except\"",
                                excepted->text()));
    return false;
  }
  const bool enforced = limits.mode == config::LimitMode::enforce;
  bool refused = false;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const auto say = [&](bool over, std::string what) {
    refused = refused || (over && enforced);
    steps.push_back(
        (over ? enforced ? "refused: " : "would be refused, but mode is \"log\": " : "") +
        std::move(what));
  };
  const auto& state = ground_.registries.services[ground_.world.service(service.name).value];
  if (const balance::Pace pace(limits.rate); pace.interval > 0)
    say(state.rate.next(pace) > now,
        fmt::format("{:.0f} % of the service's rate is used", 100 * state.rate.used(pace, now)));
  if (state.sources == nullptr) return refused;
  const Address source =
      masked(client, client.is_v4() ? limits.source_prefix_v4 : limits.source_prefix_v6);
  const balance::SourceLook look =
      state.sources->look(source, now, balance::Pace(limits.rate_per_source));
  if (limits.sessions_per_source > 0)
    say(look.sessions >= limits.sessions_per_source,
        fmt::format("source {} has {} of {} sessions", source.ip_text(), look.sessions,
                    limits.sessions_per_source));
  if (limits.rate_per_source.per_second > 0)
    say(look.too_fast, fmt::format("source {} {} its rate", source.ip_text(),
                                   look.too_fast ? "has used up" : "is within"));
  return refused;
}

/// The backend that stickiness prefers; none: it has nothing to say.
BackendId Commands::why_sticky(const config::Pool& pool, const balance::PoolSpec& spec,
                               const Address& client, std::vector<std::string>& steps) const {
  const balance::StickyTable* table = pool.sticky ? ground_.world.sticky(pool.name) : nullptr;
  if (table == nullptr) return {};
  const auto& except = pool.sticky->except;
  if (std::any_of(except.begin(), except.end(),
                  [&](const auto& each) { return each.contains(client); })) {
    steps.push_back("not sticky: it is in the pool's \"except\"");
    return {};
  }
  const Address key =
      masked(client, client.is_v4() ? pool.sticky->prefix_v4 : pool.sticky->prefix_v6);
  const auto placed = table->look(key, std::chrono::steady_clock::now().time_since_epoch());
  if (!placed) {
    steps.push_back(fmt::format("no sticky entry for {}", key.ip_text()));
    return {};
  }
  const std::string path(ground_.log.names().backend_path(*placed));
  const auto own = std::find_if(spec.members.begin(), spec.members.end(),
                                [&](const auto& member) { return member.id == *placed; });
  const bool serves = own != spec.members.end() && own->up && own->enabled && own->weight > 0;
  steps.push_back(fmt::format("the sticky entry of {} says {}{}", key.ip_text(), path,
                              serves ? "" : ", which takes no sessions: it would move"));
  return serves ? *placed : BackendId{};
}

Result<WhyView> Commands::why(const std::string& name, const std::string& address) const {
  const auto client = Address::from_ip(address);
  if (!client) return Error{"", address + " is not an IPv4 or IPv6 address"};
  const auto& services = ground_.config.services;
  const auto at = std::find_if(services.begin(), services.end(),
                               [&name](const auto& each) { return each.name == name; });
  if (at == services.end()) {
    std::vector<std::string> known;
    for (const config::Service& each : services) known.push_back(each.name);
    return unknown("service", name, known);
  }
  const config::Service& service = *at;
  const config::Pool& pool = ground_.config.pools[service.pool];
  WhyView view;
  view.service = name;
  view.client = *client;
  const auto step = [&view](std::string text) { view.steps.push_back(std::move(text)); };
  const auto in = [&client](const std::vector<Network>& networks) {
    return std::find_if(networks.begin(), networks.end(),
                        [&client](const Network& each) { return each.contains(*client); });
  };
  if (const Ban* ban = ground_.states.bans().of(*client)) {
    step(fmt::format("refused: banned as {}{}", ban->network.text(),
                     ban->reason.empty() ? "" : " (" + ban->reason + ")"));
    return view;
  }
  if (const auto denied = in(service.deny); denied != service.deny.end()) {
    step(fmt::format("denied: {} is in \"deny\" as {}", address, denied->text()));
    return view;
  }
  if (!service.allow.empty() && in(service.allow) == service.allow.end()) {
    step(fmt::format("denied: {} is not in \"allow\"", address));
    return view;
  }
  const auto& admin = std::as_const(ground_.world).service_admin();
  if (const auto state = admin.find(name); state != admin.end()) {
    step(fmt::format("refused: service {} is {}{}", name, name_of(state->second.admin),
                     state->second.reason.empty() ? "" : " (" + state->second.reason + ")"));
    return view;
  }
  const std::uint32_t open = sessions_of(ground_.world.service(name));
  if (service.limits.sessions > 0 && open >= service.limits.sessions) {
    step(fmt::format("refused: service {} has {} of {} sessions", name, open,
                     service.limits.sessions));
    return view;
  }
  step(fmt::format(
      "service {} takes it: {} of {} sessions", name, open,
      service.limits.sessions == 0 ? "any number of" : std::to_string(service.limits.sessions)));
  if (why_limits(service, *client, view.steps)) return view;

  const balance::PoolSpec* spec = ground_.world.pool_spec(pool.name);
  if (spec == nullptr) return Error{"", "pool " + pool.name + " is not there yet"};
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  // The real scheduler on a copy of everything that a pick changes.
  std::deque<balance::BackendState> states;
  balance::PoolState state;
  state.cursor.store(spec->state->cursor.load());
  state.spill.store(spec->state->spill.load());
  state.active_tier.store(spec->state->active_tier.load());
  balance::PoolSpec copy = *spec;
  copy.state = &state;
  for (balance::Member& member : copy.members) {
    const std::uint32_t sessions = member.state->sessions.load();
    const BackendStatus& status = std::as_const(ground_.world).backends().at(member.id);
    std::string why =
        fmt::format("{}: {}, weight {}, tier {}, {} sessions{}", status.path(), status.state(),
                    member.weight, member.tier, sessions,
                    member.max_sessions > 0 ? fmt::format(" of {}", member.max_sessions) : "");
    if (!member.enabled)
      why += fmt::format("; not a candidate{}",
                         status.admin.reason.empty() ? "" : " (" + status.admin.reason + ")");
    else if (member.weight == 0)
      why += "; not a candidate";
    else if (!member.up)
      why += fmt::format("; only when nobody is up{}",
                         status.health_reason.empty() ? "" : " (" + status.health_reason + ")");
    else if (member.max_sessions > 0 && sessions >= member.max_sessions)
      why += "; full";
    why += brakes_of(member.state->brakes, now);
    step(std::move(why));
    balance::BackendState& trial = states.emplace_back();
    trial.sessions.store(sessions);
    trial.brakes.copy(member.state->brakes);
    member.state = &trial;
  }
  const balance::Pool trial(copy);
  balance::PickRequest request;
  request.source = masked(
      *client, client->is_v4() ? service.limits.source_prefix_v4 : service.limits.source_prefix_v6);
  request.random = 0x9e3779b97f4a7c15;
  request.now = now;
  request.preferred = why_sticky(pool, copy, *client, view.steps);
  const balance::Pick pick = trial.pick(request);
  switch (pick.result) {
    case balance::PickResult::chosen: {
      const BackendStatus& status = std::as_const(ground_.world).backends().at(pick.member->id);
      view.backend = status.path();
      const config::Scheduler scheduler =
          config::scheduler_of(pool.scheduler, pool.tier_schedulers, pick.member->tier);
      step(fmt::format("tier {} is in use; {} picks {}{}", trial.active_tier(),
                       request.preferred == pick.member->id ? "stickiness" : name_of(scheduler),
                       view.backend,
                       scheduler == config::Scheduler::random_two ? " or another, by chance" : ""));
      break;
    }
    case balance::PickResult::full:
      step("refused: every candidate is full");
      break;
    case balance::PickResult::no_backend:
      step("refused: there is no candidate");
      break;
  }
  return view;
}

Result<StickyList> Commands::sticky(const SessionFilter& filter, std::size_t at_most) const {
  const auto wanted = matcher(filter);
  if (!wanted) return wanted.error();
  StickyList list;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  for (const config::Pool& pool : ground_.config.pools) {
    const balance::StickyTable* table = pool.sticky ? ground_.world.sticky(pool.name) : nullptr;
    if (table == nullptr) continue;
    table->for_each(now, [&](const balance::StickyEntry& entry) {
      if (wanted->backend && wanted->backend != entry.backend) return;
      const unsigned prefix =
          entry.source.is_v4() ? pool.sticky->prefix_v4 : pool.sticky->prefix_v6;
      // An address asks for the entry it falls under, a network for those that lie in it.
      const Network own{.base = entry.source, .prefix = static_cast<std::uint8_t>(prefix)};
      if (wanted->source && !wanted->source->contains(entry.source) &&
          !own.contains(wanted->source->base))
        return;
      ++list.matching;
      if (list.entries.size() == at_most) return;
      list.entries.push_back(
          {.pool = pool.name,
           .source = entry.source,
           .prefix = prefix,
           .backend = std::string(ground_.log.names().backend_path(entry.backend)),
           .idle = entry.idle});
    });
  }
  std::sort(list.entries.begin(), list.entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.pool, a.source) < std::tie(b.pool, b.source);
  });
  return list;
}

/// The used share of what is limited, for those that are.
void Commands::add_limits(metrics::Facts& facts) const {
  const auto add = [&facts](std::string name, double used, double limit) {
    if (limit > 0) facts.limits[std::move(name)] = used / limit;
  };
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  for (const config::Service& service : ground_.config.services) {
    const ServiceId id = ground_.world.service(service.name);
    add("service/" + service.name, sessions_of(id), service.limits.sessions);
    if (service.limits.rate.per_second > 0)
      facts.limits["rate/" + service.name] =
          ground_.registries.services[id.value].rate.used(balance::Pace(service.limits.rate), now);
  }
  for (const config::Pool& pool : ground_.resolved.pools) {
    for (const config::Backend& backend : pool.backends) {
      const BackendStatus* const status =
          std::as_const(ground_.world).backends().find(pool.name + "/" + backend.name);
      if (status != nullptr)
        add("backend/" + status->path(), sessions_of(status->id), backend.max_sessions);
    }
    add("queue/" + pool.name,
        ground_.registries.waiters[ground_.world.pool_ids().at(pool.name).value].length(),
        pool.queue.length);
    if (const auto* table = pool.sticky ? ground_.world.sticky(pool.name) : nullptr)
      add("sticky/" + pool.name, table->entries(), pool.sticky->entries);
  }
  facts.bans = ground_.states.bans().all().size();
  add("bans", static_cast<double>(facts.bans), Bans::kMax);
}

void Commands::add_pools(metrics::Facts& facts) const {
  for (const config::Pool& pool : ground_.config.pools) {
    const PoolId id = ground_.world.pool_ids().at(pool.name);
    metrics::PoolFacts& out = facts.pools.emplace_back();
    out.pool = pool.name;
    if (pool.probe.type != config::ProbeType::off) {
      const health::PoolProbes& probes = ground_.health.monitor().probes(id);
      out.probe.emplace().add(probes.durations);
      out.probe_suspect = probes.suspect.load(std::memory_order_relaxed);
      out.probe_login_refused = probes.login_refused.load(std::memory_order_relaxed);
    }
    if (pool.queue.length > 0) {
      out.queue_length = ground_.registries.waiters[id.value].length();
      for (std::size_t worker = 0; worker < ground_.workers.size(); ++worker)
        out.queue_wait.add(ground_.workers.counters(worker).queue_waits[id.value]);
    }
    if (const auto* table = pool.sticky ? ground_.world.sticky(pool.name) : nullptr)
      out.sticky_entries = table->entries();
  }
}

metrics::Facts Commands::facts() const {
  metrics::Facts facts;
  facts.version = ground_.version;
  facts.start_time = unix_seconds(started_);
  facts.reload_success_time = unix_seconds(reloaded_);
  // Of the inode: a file that was put in its place has changed too, however old its text is.
  struct stat status {};
  if (::stat(ground_.config_path.c_str(), &status) == 0)
    facts.config_file_time = static_cast<double>(status.st_ctim.tv_sec) +
                             static_cast<double>(status.st_ctim.tv_nsec) * 1e-9;
  facts.reloads = reloads_;
  facts.reloads_failed = reloads_failed_;
  facts.reload_good = reload_error_.empty();
  facts.log_dropped = ground_.log.dropped();
  facts.limits["process"] =
      static_cast<double>(ground_.registries.sessions.load(std::memory_order_relaxed)) /
      std::max(ground_.registries.sessions_max, 1u);
  const std::size_t workers = ground_.workers.size();
  for (std::size_t worker = 0; worker < workers; ++worker) {
    const WorkerCounters& counters = ground_.workers.counters(worker).worker;
    facts.accept_paused += counters.accept_paused.get();
    facts.sessions_shed += counters.sessions_shed.get();
    facts.buffers_ran_out += counters.buffers_ran_out.get();
    facts.bulk_turns += counters.bulk_turns.get();
  }

  if (const auto pair = ground_.pair.view()) {
    facts.pair_in_sync = pair->in_sync;
    for (const auto& each : pair->instances) facts.vrrp[each.name] = each.role;
  }

  const auto& table = std::as_const(ground_.world).backends();
  std::vector<const std::string*> service_names(ground_.world.services());
  for (const auto& [name, id] : ground_.world.service_ids()) service_names[id.value] = &name;
  std::vector<std::uint64_t> placed(ground_.world.services());
  const auto& pairs = ground_.world.pairs();
  for (std::uint32_t index = 0; index < pairs.size(); ++index) {
    const World::Pair& pair = pairs[index];
    const std::string backend = pair.backend ? table.at(pair.backend).name : "";
    // A backend with a new address keeps its name, and with it its series.
    metrics::PairFacts& out = facts.pairs[{*service_names[pair.service.value], backend}];
    std::uint64_t started = 0, ended = 0;
    for (std::size_t worker = 0; worker < workers; ++worker) {
      const PairCounters& from = ground_.workers.counters(worker).pairs[index];
      for (std::size_t i = 0; i < out.sessions.size(); ++i) {
        const std::uint64_t count = from.sessions_ended[i].get();
        out.sessions[i] += count;
        ended += count;
      }
      started += from.sessions_started.get();
      for (std::size_t i = 1; i < out.retries.size(); ++i) out.retries[i] += from.retries[i].get();
      for (std::size_t i = 0; i < out.greetings.size(); ++i)
        out.greetings[i] += from.greetings[i].get();
      out.to_backend_bytes += from.bytes[static_cast<std::size_t>(io::Direction::to_backend)].get();
      out.to_client_bytes += from.bytes[static_cast<std::size_t>(io::Direction::to_client)].get();
    }
    if (!pair.backend) continue;
    const std::uint64_t active = started > ended ? started - ended : 0;
    out.active += active;
    placed[pair.service.value] += active;
  }
  for (const IpvsUse& use : ground_.ipvs.use()) {
    metrics::PairFacts& out =
        facts.pairs[{*service_names[use.service.value], table.at(use.backend).name}];
    out.ended_in_kernel += use.ended;
    out.active += use.active;
    out.to_backend_bytes += use.bytes_to_backend;
    out.to_client_bytes += use.bytes_to_client;
  }
  for (const auto& [name, id] : ground_.world.service_ids()) {
    const std::uint64_t open =
        ground_.registries.services[id.value].sessions.load(std::memory_order_relaxed);
    facts.pairs[{name, ""}].active = open > placed[id.value] ? open - placed[id.value] : 0;
    metrics::ServiceFacts service;
    service.service = name;
    for (std::size_t worker = 0; worker < workers; ++worker) {
      const proxy::Counters& counters = ground_.workers.counters(worker);
      const ServiceCounters& from = counters.services[id.value];
      for (std::size_t i = 0; i < service.refusals.size(); ++i)
        service.refusals[i] += from.refusals[i].get();
      service.early_talkers += from.early_talkers.get();
      service.connect.add(counters.durations[id.value].connect);
      service.greeting.add(counters.durations[id.value].greeting);
      service.session.add(counters.durations[id.value].session);
    }
    facts.services.push_back(std::move(service));
  }
  add_limits(facts);
  add_pools(facts);
  for (const BackendStatus& each : table.all()) {
    if (!each.configured) continue;
    metrics::BackendFacts backend;
    backend.pool = each.pool_name;
    backend.backend = each.name;
    backend.state = std::string(each.state());
    backend.up = each.health == Health::up || each.health == Health::recovering;
    backend.weight = each.weight();
    const health::ProbeStats& stats = ground_.health.monitor().stats(each.id);
    for (std::size_t i = 0; i < backend.probes.size(); ++i)
      backend.probes[i] = stats.outcomes[i].get();
    backend.certificate_not_after = stats.not_after.load(std::memory_order_relaxed);
    facts.backends.push_back(std::move(backend));
  }
  return facts;
}

}  // namespace poise::control
