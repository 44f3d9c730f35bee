#include "control/control.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "config/load.h"
#include "control/machine.h"
#include "net/limits.h"

namespace poise::control {

using config::LogLevel;

namespace {

/// How often control looks whether the workers have got on.
constexpr milliseconds kPoll{10};
constexpr milliseconds kStickyExpiry{20'000};

/// The sessions of a dead backend are let go within this time: thousands of clients that all come
/// back at once are the next outage.
constexpr milliseconds kDownPace{60'000};

/// What happens within this time is published together.
constexpr milliseconds kPublishDelay{10};

/// How often workers are asked for a sign of life when no service manager waits for ours, and when
/// another box could do better.
constexpr milliseconds kWatch{5000}, kWatchOfPair{3000};

/// Clients wait no longer for the first verdicts.
constexpr milliseconds kVerdictsMax{3000};

sigset_t handled_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR2}) sigaddset(&signals, signal);
  return signals;
}

std::string describe(const signalfd_siginfo& info) {
  const char* name = info.ssi_signo == SIGTERM  ? "SIGTERM"
                     : info.ssi_signo == SIGINT ? "SIGINT"
                     : info.ssi_signo == SIGHUP ? "SIGHUP"
                                                : "signal";
  if (info.ssi_code == SI_KERNEL || info.ssi_pid == 0) return name;
  return fmt::format("{} from pid {} (uid {})", name, info.ssi_pid, info.ssi_uid);
}

unsigned usable_cpus() {
  cpu_set_t cpus;
  return ::sched_getaffinity(0, sizeof cpus, &cpus) == 0
             ? static_cast<unsigned>(std::max(CPU_COUNT(&cpus), 1))
             : 1;
}

}  // namespace

Control::Control(config::Config config, About about, log::Log& log, Notify notify)
    : config_(std::move(config)),
      log_(log),
      notify_(std::move(notify)),
      world_(registries_, log.names()),
      listeners_(workers_, log),
      states_(about.state_directory.empty() ? "" : about.state_directory + "/operator-states"),
      health_(loop_, log, world_, registries_,
              {.changed = [this] { health_changed(); },
               .renamed = [this] { rebuild(); },
               .went_down =
                   [this](BackendId id, config::OnDown what) {
                     let_go(id, what);
                     if (notify_.down) notify_.down(world_.backends().at(id).path());
                   },
               .came_back = [this](BackendId id) { drains_.cancel({.backend = id, .down = true}); },
               .happened =
                   [this](const BackendStatus& status, std::string what, std::string reason) {
                     events_.add({.kind = "health",
                                  .object = status.path(),
                                  .what = std::move(what),
                                  .reason = std::move(reason)});
                   },
               .moved = [this](std::uint32_t pair) { return workers_.sums(pair).to_client; }}),
      ipvs_(loop_, log, world_, resolved_, about.state_directory),
      pair_(
          {.config = config_,
           .world = world_,
           .workers = workers_,
           .loop = loop_,
           .log = log,
           .events = events_,
           .states = states_,
           .health = health_,
           .publish = [this] { publish_soon(); },
           .decide = [this](const pair::Decision& each) { commands_.apply(each); },
           .ban = [this](const pair::BanChange& each) { commands_.apply(each); },
           .request =
               [this](const pair::Request& request, std::function<void(bool, std::string)> answer) {
                 commands_.peer_asks(request, std::move(answer));
               },
           .link_lost = [this] { commands_.peer_lost(); },
           .role_changed = [this] { follow_role(); }}),
      guard_(about.guard),
      workers_(registries_, log,
               [this](const proxy::Trouble& trouble) {
                 health_.failed_try(trouble.backend, trouble.outcome, trouble.prefix_hash);
               }),
      drains_(workers_, loop_),
      commands_({.config = config_,
                 .resolved = resolved_,
                 .world = world_,
                 .registries = registries_,
                 .workers = workers_,
                 .loop = loop_,
                 .log = log_,
                 .listeners = listeners_,
                 .events = events_,
                 .drains = drains_,
                 .states = states_,
                 .health = health_,
                 .ipvs = ipvs_,
                 .pair = pair_,
                 .config_path = about.config_path,
                 .load = about.load,
                 .version = about.version,
                 .publish = [this] { publish(); },
                 .rebuild = [this] { rebuild(); },
                 .adopt = [this](config::Config next) -> Result<void> {
                   if (auto configured = health_.configure(next); !configured) return configured;
                   config_ = std::move(next);
                   warn_of_descriptors();
                   return {};
                 },
                 .shutdown =
                     [this](std::string cause) {
                       if (stop_cause_.empty()) begin_drain(std::move(cause));
                     },
                 .stopping = [this] { return !stop_cause_.empty(); },
                 .reloading =
                     [this](bool begins) {
                       if (begins && notify_.reloading) notify_.reloading();
                       if (!begins && notify_.ready) notify_.ready();
                     }}),
      // Asked, answered and told at least twice within the manager's patience.
      watch_interval_(std::min(about.watchdog > milliseconds(0) ? about.watchdog / 4 : kWatch,
                               config_.pair ? kWatchOfPair : kWatch)) {
  if (config_.workers == 0) config_.workers = usable_cpus();
}

Control::~Control() = default;

void Control::block_signals() {
  const sigset_t signals = handled_signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

// ---- start
// ---------------------------------------------------------------------------------------------------------

void Control::warn_of_descriptors() {
  const std::uint64_t descriptors = net::raise_descriptor_limit();
  const std::uint32_t usable = net::sessions_for(descriptors);
  std::uint64_t wanted = 0;
  for (const config::Service& service : config_.services) wanted += service.limits.sessions;
  if (wanted > usable)
    log_.message(LogLevel::warning,
                 "limits.sessions ask for {} sessions in all, but RLIMIT_NOFILE of {} allows {}; "
                 "raise LimitNOFILE to {}",
                 wanted, descriptors, usable, wanted * 2 + net::kReservedDescriptors);
}

Result<void> Control::start() {
  if (auto able = check_machine(config_); !able) return able;
  for (const std::string& each : missing_routes(config_))
    log_.message(LogLevel::warning, "{}", each);
  if (auto opened = loop_.open(handled_signals()); !opened) return opened;
  registries_.sessions_max = net::sessions_for(net::raise_descriptor_limit());
  warn_of_descriptors();
  ipvs_.open();
  if (auto able = ipvs_.check(config_); !able) return able;
  auto opened = listeners_.open_missing(config_, config_.workers);
  if (!opened) return opened.error();
  if (auto configured = health_.configure(config_); !configured) return configured;
  if (auto started = workers_.start(config_.workers); !started) return started;
  commands_.restore();
  rebuild();
  expire_sticky();
  if (auto started = pair_.start(guard_, commands_.version()); !started) return started;
  pair_.configure(config::file_text(commands_.config_path()).value_or(""));
  if (auto started = health_.start(); !started) return started;
  await_verdicts();
  ipvs_.begin();
  listeners_.apply(config_, std::move(*opened), world_, loop_);
  commands_.resume();
  return await_listening();
}

/// The backends are others than before.
void Control::rebuild() {
  resolved_ = health_.resolve(config_);
  publish();
  follow_role();
}

/// The passive box probes at its own pace. In ip_vs mode the kernel of the active one tells it of
/// the connections there are.
void Control::follow_role() {
  std::vector<ipvs::SyncDaemon> daemons;
  if (config_.pair) {
    const pair::Role role = pair_.role();
    const bool active = role == pair::Role::master, passive = role == pair::Role::backup;
    health_.set_pace(passive ? config_.pair->pace : milliseconds(0));
    if (any_in_kernel(config_) && (active || passive)) {
      const config::Vrrp& first = config_.pair->vrrp.front();
      daemons.push_back({.master = active, .interface = first.interface, .id = first.router_id});
    }
  }
  ipvs_.sync(std::move(daemons));
  health_.watch(resolved_);
}

void Control::publish_soon() {
  if (std::exchange(publish_due_, true)) return;
  loop_.after(kPublishDelay, [this] {
    if (publish_due_) publish();
  });
}

void Control::health_changed() {
  publish_soon();
  if (starting_ && health_.settled()) loop_.stop();
}

/// The first session meets a pool that was looked at. A signal to stop ends the wait.
void Control::await_verdicts() {
  starting_ = true;
  loop_.on_signal = [this](const signalfd_siginfo& info) {
    if (info.ssi_signo != SIGTERM && info.ssi_signo != SIGINT) return;
    stop_cause_ = describe(info);
    loop_.stop();
  };
  loop_.after(kVerdictsMax, [this] {
    if (starting_) loop_.stop();
  });
  if (!health_.settled()) loop_.run();
  starting_ = false;
  publish();
}

void Control::publish() {
  publish_due_ = false;
  auto snapshot = world_.next(resolved_);
  ipvs_.update(snapshot->pools);
  workers_.publish(std::move(snapshot), static_cast<std::uint32_t>(world_.pairs().size()),
                   world_.services(), static_cast<std::uint32_t>(world_.pool_ids().size()));
  loop_.after(kPoll, [this] { settle(); });
}

/// The sessions of a backend that went down. Never one whose server owes an answer as long as its
/// connection lives: cut there, the mail arrives twice.
void Control::let_go(BackendId id, config::OnDown what) {
  if (what == config::OnDown::keep) return;
  const auto* sessions = &registries_.backends[id.value].sessions;
  drains_.begin({.backend = id, .down = true},
                {.sessions = [sessions] { return sessions->load(std::memory_order_relaxed); },
                 .over = what == config::OnDown::pace ? kDownPace : milliseconds(1),
                 .finished = [] {},
                 .reason = CloseReason::backend_down});
}

void Control::expire_sticky() {
  world_.expire_sticky(std::chrono::steady_clock::now().time_since_epoch());
  loop_.after(kStickyExpiry, [this] { expire_sticky(); });
}

/// Says that we are alive, but not while a worker is stuck: its clients wait in vain, and only a
/// restart helps them.
void Control::look_after_workers() {
  const std::optional<std::size_t> silent = workers_.ask_alive();
  if (silent && !silent_worker_)
    log_.message(LogLevel::error,
                 "worker {} does not answer: it is stuck, or the machine is overloaded", *silent);
  if (!silent && silent_worker_)
    log_.message(LogLevel::warning, "worker {} answers again", *silent_worker_);
  silent_worker_ = silent;
  look_for_faults(silent.has_value());
  if (!silent && notify_.alive) notify_.alive();
  if (notify_.status)
    if (std::string status = commands_.status().sentence; status != status_told_)
      notify_.status(status_told_ = std::move(status));
  loop_.after(watch_interval_, [this] { look_after_workers(); });
}

/// What keeps this box alone from serving; pools that are down are no fault of it.
void Control::look_for_faults(bool silent_worker) {
  if (silent_worker)
    pair_.set_fault("worker", "a worker does not answer");
  else
    pair_.clear_fault("worker");
  if (!stop_cause_.empty() || listeners_.open().empty()) return;
  if (!workers_.all_listening() && !listeners_.closing())
    pair_.set_fault("listener", "a listener is gone");
  else
    pair_.clear_fault("listener");
}

/// Earlier snapshots go when nobody works with them any more.
void Control::settle() {
  if (!workers_.settled()) loop_.after(kPoll, [this] { settle(); });
}

Result<void> Control::await_listening() {
  if (listeners_.open().empty()) return {};  // the kernel forwards everything
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!workers_.all_listening()) {
    if (std::chrono::steady_clock::now() > give_up)
      return Error{"workers",
                   "a worker does not come up: the machine is overloaded, or this is a bug"};
    std::this_thread::sleep_for(milliseconds(1));
  }
  return {};
}

// ---- run
// -----------------------------------------------------------------------------------------------------------

void Control::run() {
  log_.always("ready: {} services, {} listeners, {} workers, {} sessions at most",
              config_.services.size(), listeners_.open().size(), workers_.size(),
              registries_.sessions_max);
  if (notify_.ready) notify_.ready();
  loop_.on_signal = [this](const signalfd_siginfo& info) { on_signal(info); };
  if (!stop_cause_.empty()) begin_drain(stop_cause_);
  look_after_workers();
  pair_.ready();
  loop_.run();
  loop_.close();
  pair_.stop();
  health_.stop();
  ipvs_.close();
  log_totals();
  workers_.stop(false);
}

void Control::on_signal(const signalfd_siginfo& info) {
  switch (info.ssi_signo) {
    case SIGTERM:
    case SIGINT:
      if (stop_cause_.empty()) return begin_drain(describe(info));
      return cut(fmt::format("a second {}", describe(info)));
    case SIGHUP:
      return commands_.reload(false, {.user = describe(info), .reason = ""},
                              [](const ReloadView&) {});
    default:
      log_.message(LogLevel::warning,
                   "SIGUSR2: upgrade in place is not supported yet; nothing changed");
  }
}

void Control::ask(std::function<void(Commands&)> work) {
  loop_.post([this, work = std::move(work)] { work(commands_); });
}

std::uint32_t Control::sessions() const {
  return registries_.sessions.load(std::memory_order_relaxed);
}

void Control::begin_drain(std::string cause) {
  stop_cause_ = std::move(cause);
  if (notify_.stopping) notify_.stopping(config_.shutdown_drain);
  log_.always(
      "stopping: {}; {} sessions have up to {} s to finish, another signal ends them at once",
      stop_cause_, sessions(), std::chrono::duration<double>(config_.shutdown_drain).count());
  // The other box of a pair has the addresses before anybody here is refused.
  pair_.demote("stopping", "poised is stopping", [this] { stop_listening(); });
}

void Control::stop_listening() {
  listeners_.stop();
  workers_.post(proxy::StopListening{});
  ipvs_.drain(pair_.elsewhere());
  loop_.after(config_.shutdown_drain, [this] { cut("the drain is over"); });
  await_listeners_closed();
}

/// The listeners close when no worker accepts on them any more; then workers may end.
void Control::await_listeners_closed() {
  if (!workers_.none_listening()) return loop_.after(kPoll, [this] { await_listeners_closed(); });
  listeners_.close_all();
  workers_.post(proxy::Stop{});
  await_workers_ended();
}

void Control::await_workers_ended() {
  if (workers_.all_ended() && (cutting_ || ipvs_.drained())) return loop_.stop();
  loop_.after(kPoll, [this] { await_workers_ended(); });
}

void Control::cut(const std::string& why) {
  if (cutting_) return;
  cutting_ = true;
  log_.message(LogLevel::warning, "{}: {} sessions are cut", why, sessions());
  workers_.post(proxy::Stop{.at_once = true});
}

void Control::log_totals() {
  std::uint64_t served = 0, without = 0, cut = 0;
  const auto& pairs = world_.pairs();
  for (std::uint32_t index = 0; index < pairs.size(); ++index) {
    const PairSums sums = workers_.sums(index);
    cut += sums.cut;
    if (!pairs[index].backend) {
      without += sums.sessions;
      continue;
    }
    served += sums.sessions;
    log_.message(
        LogLevel::info, "total service={} backend={} sessions={} to_backend={} to_client={}",
        log_.names().service(pairs[index].service), log_.names().backend_path(pairs[index].backend),
        sums.sessions, sums.to_backend, sums.to_client);
  }
  log_.always("stopped: {}; {} sessions served, {} without a backend, {} cut", stop_cause_, served,
              without, cut);
}

}  // namespace poise::control
