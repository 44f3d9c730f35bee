#include "control/control.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <future>
#include <numeric>

#include "io/uring.h"
#include "net/limits.h"
#include "net/socket.h"

namespace poise::control {

using config::LogLevel;
using std::chrono::milliseconds;

/// A worker, its thread, and what must outlive both.
struct Control::WorkerThread {
  proxy::Counters counters;
  log::SessionSink* sink = nullptr;
  proxy::Worker* worker =
      nullptr;  ///< lives in the thread, which made it; null again once it has ended
  std::atomic<bool> ended{false};
  std::promise<void> may_leave;  ///< the worker stays until control no longer looks at it
  std::thread thread;
};

namespace {

sigset_t handled_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR2}) sigaddset(&signals, signal);
  return signals;
}

std::string describe(const siginfo_t& info) {
  const char* name = info.si_signo == SIGTERM  ? "SIGTERM"
                     : info.si_signo == SIGINT ? "SIGINT"
                                               : "signal";
  if (info.si_code == SI_KERNEL || info.si_pid == 0) return name;
  return fmt::format("{} from pid {} (uid {})", name, info.si_pid, info.si_uid);
}

unsigned usable_cpus() {
  cpu_set_t cpus;
  return ::sched_getaffinity(0, sizeof cpus, &cpus) == 0
             ? static_cast<unsigned>(std::max(CPU_COUNT(&cpus), 1))
             : 1;
}

}  // namespace

Control::Control(config::Config config, log::Log& log, Notify notify)
    : config_(std::move(config)),
      log_(log),
      notify_(std::move(notify)),
      world_(registries_, log.names()) {
  if (config_.workers == 0) config_.workers = usable_cpus();
}

Control::~Control() {
  stop_workers(true);
}

void Control::block_signals() {
  const sigset_t signals = handled_signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

// ---- start
// ---------------------------------------------------------------------------------------------------------

std::uint32_t Control::sessions_usable() {
  const std::uint64_t descriptors = net::raise_descriptor_limit();
  const std::uint32_t usable = net::sessions_for(descriptors);
  std::uint64_t wanted = 0;
  for (const config::Service& service : config_.services) wanted += service.limits.sessions;
  if (wanted > usable)
    log_.message(LogLevel::warning,
                 "limits.sessions ask for {} sessions in all, but RLIMIT_NOFILE of {} allows {}; "
                 "raise LimitNOFILE to {}",
                 wanted, descriptors, usable, wanted * 2 + net::kReservedDescriptors);
  return usable;
}

Result<void> Control::start() {
  for (const config::Service& service : config_.services)
    if (auto known = net::check_congestion(service.congestion); !known)
      return Error{"service " + service.name, known.error().text()};
  for (const config::Pool& pool : config_.pools)
    if (auto known = net::check_congestion(pool.congestion); !known)
      return Error{"pool " + pool.name, known.error().text()};
  registries_.sessions_max = sessions_usable();
  if (auto opened = open_listeners(); !opened) return opened;
  if (auto started = start_workers(); !started) return started;
  publish();
  return accept_everywhere();
}

Result<void> Control::open_listeners() {
  for (const config::Service& service : config_.services) {
    for (const Address& wanted : service.listen) {
      OpenListener open{.service = service.name, .address = wanted, .fds = {}};
      net::ListenerOptions options;
      options.keepalive = service.keepalive;
      options.user_timeout = service.user_timeout;
      options.congestion = service.congestion;
      for (unsigned worker = 0; worker < config_.workers; ++worker) {
        options.expect_unused = worker == 0;
        auto fd = net::open_listener(open.address, options);
        if (!fd) return Error{"service " + service.name, fd.error().text()};
        if (open.address.port == 0) open.address.port = net::local_address(fd->get()).port;
        open.fds.push_back(std::move(*fd));
      }
      log_.message(LogLevel::info, "listening service={} address={}", service.name,
                   open.address.text());
      listeners_.push_back(std::move(open));
    }
  }
  return {};
}

Result<void> Control::start_workers() {
  for (unsigned number = 0; number < config_.workers; ++number) {
    auto self = std::make_unique<WorkerThread>();
    self->sink = log_.add_worker();
    std::promise<Result<void>> started;
    auto outcome = started.get_future();
    WorkerThread* thread = self.get();
    // The session id: when this process began (24 bits of seconds, half a year), which worker, and
    // a count.
    const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
    const auto life = static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::seconds>(since_epoch).count());
    const std::uint64_t first_id = (life << 40) | (static_cast<std::uint64_t>(number) << 32);
    self->thread =
        std::thread([this, thread, number, first_id, started = std::move(started)]() mutable {
          ::pthread_setname_np(::pthread_self(), fmt::format("worker-{}", number).c_str());
          // A batch thread does not cut short whoever runs when its first event comes, so it wakes
          // to many events instead of one; on an idle CPU it runs at once as before.
          const sched_param normal{};
          ::pthread_setschedparam(::pthread_self(), SCHED_BATCH, &normal);
          auto ring = io::make_uring({});
          if (!ring) return started.set_value(ring.error());
          proxy::Worker worker(**ring, registries_, thread->counters, {}, registries_.sessions_max,
                               first_id, thread->sink, &log_);
          thread->worker = &worker;
          started.set_value(Result<void>{});
          worker.run();
          thread->ended.store(true, std::memory_order_release);
          thread->may_leave.get_future().wait();
        });
    const Result<void> result = outcome.get();
    if (!result) {
      self->thread.join();
      return result.error();
    }
    workers_.push_back(std::move(self));
  }
  return {};
}

void Control::publish() {
  snapshots_.push_back(world_.next(config_));
  for (const auto& each : workers_) {
    each->counters.pairs.grow(static_cast<std::uint32_t>(world_.pairs().size()));
    each->counters.services.grow(world_.services());
  }
  for (const auto& each : workers_) each->worker->post(proxy::Publish{snapshots_.back().get()});
}

Result<void> Control::accept_everywhere() {
  for (std::size_t number = 0; number < workers_.size(); ++number) {
    proxy::Listen command;
    for (const OpenListener& open : listeners_)
      command.listeners.push_back({.fd = open.fds[number].get(),
                                   .service = world_.service(open.service),
                                   .address = open.address});
    workers_[number]->worker->post(std::move(command));
  }
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  const auto all_accept = [&] {
    return std::all_of(workers_.begin(), workers_.end(),
                       [](const auto& each) { return each->worker->listening(); });
  };
  while (!all_accept()) {
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
              config_.services.size(), listeners_.size(), workers_.size(),
              registries_.sessions_max);
  if (notify_.ready) notify_.ready();
  const sigset_t signals = handled_signals();
  for (;;) {
    siginfo_t info{};
    const int signal = ::sigwaitinfo(&signals, &info);
    if (signal == SIGTERM || signal == SIGINT) {
      stop_cause_ = describe(info);
      break;
    }
    if (signal == SIGHUP)
      log_.message(LogLevel::warning, "SIGHUP: reload is not supported yet; nothing changed");
    if (signal == SIGUSR2)
      log_.message(LogLevel::warning,
                   "SIGUSR2: upgrade in place is not supported yet; nothing changed");
  }
  drain();
}

std::uint32_t Control::sessions() const {
  return registries_.sessions.load(std::memory_order_relaxed);
}

void Control::drain() {
  if (notify_.stopping) notify_.stopping();
  log_.always(
      "stopping: {}; {} sessions have up to {} s to finish, another signal ends them at once",
      stop_cause_, sessions(), std::chrono::duration<double>(config_.shutdown_drain).count());
  for (const auto& each : workers_) each->worker->post(proxy::StopListening{});
  const auto deadline = std::chrono::steady_clock::now() + config_.shutdown_drain;
  bool listeners_closed = false, told_to_end = false;
  const sigset_t signals = handled_signals();
  for (;;) {
    if (!listeners_closed && std::none_of(workers_.begin(), workers_.end(), [](const auto& each) {
          return each->worker->listening();
        })) {
      listeners_.clear();
      listeners_closed = true;
      for (const auto& each : workers_) each->worker->post(proxy::Stop{});
    }
    if (std::all_of(workers_.begin(), workers_.end(),
                    [](const auto& each) { return each->ended.load(std::memory_order_acquire); }))
      break;
    if (!told_to_end && std::chrono::steady_clock::now() >= deadline) {
      log_.message(LogLevel::warning, "the drain is over: {} sessions are cut", sessions());
      for (const auto& each : workers_) each->worker->post(proxy::Stop{.at_once = true});
      told_to_end = true;
    }
    const timespec pause{.tv_sec = 0, .tv_nsec = 10'000'000};
    siginfo_t info{};
    const int signal = ::sigtimedwait(&signals, &info, &pause);
    if ((signal == SIGTERM || signal == SIGINT) && !told_to_end) {
      log_.message(LogLevel::warning, "a second {}: {} sessions are cut", describe(info),
                   sessions());
      for (const auto& each : workers_) each->worker->post(proxy::Stop{.at_once = true});
      told_to_end = true;
    }
  }
  log_totals();
  stop_workers(false);
}

void Control::stop_workers(bool at_once) {
  for (const auto& each : workers_) {
    if (at_once) {
      each->worker->post(proxy::StopListening{});
      each->worker->post(proxy::Stop{.at_once = true});
    }
    each->may_leave.set_value();
    each->thread.join();
  }
  workers_.clear();
}

void Control::log_totals() {
  std::uint64_t served = 0, without = 0, cut = 0;
  const auto& pairs = world_.pairs();
  for (std::uint32_t index = 0; index < pairs.size(); ++index) {
    std::uint64_t sessions = 0, in = 0, out = 0;
    for (const auto& each : workers_) {
      const PairCounters& counters = each->counters.pairs[index];
      for (const Counter& counter : counters.sessions_ended) sessions += counter.get();
      cut += counters.sessions_ended[static_cast<std::size_t>(CloseReason::shutdown)].get();
      in += counters.bytes[static_cast<std::size_t>(io::Direction::to_backend)].get();
      out += counters.bytes[static_cast<std::size_t>(io::Direction::to_client)].get();
    }
    if (!pairs[index].backend) {
      without += sessions;
      continue;
    }
    served += sessions;
    log_.message(LogLevel::info,
                 "total service={} backend={} sessions={} to_backend={} to_client={}",
                 log_.names().service(pairs[index].service),
                 log_.names().backend_path(pairs[index].backend), sessions, in, out);
  }
  log_.always("stopped: {}; {} sessions served, {} without a backend, {} cut", stop_cause_, served,
              without, cut);
}

}  // namespace poise::control
