#include "health/monitor.h"

#include <ev++.h>
#include <pthread.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "health/certificates.h"
#include "health/resolver.h"

namespace poise::health {
namespace {

/// What clients cause is dropped beyond so much: it says nothing new.
constexpr std::size_t kPostedMax = 4096;

/// What falls due between two ticks starts together at the second: many probes then share a wake-up
/// for their start, for their greetings and for their ends, which is half the CPU of one each.
using Ticks = std::chrono::duration<std::int64_t, std::ratio<1, 25>>;

Time steady_now() {
  return std::chrono::steady_clock::now();
}

Monitor::StartProbe real_prober(struct ev_loop* loop) {
  auto prober = std::make_shared<Prober>(loop);
  return [prober](ProbeRequest request, std::function<void(const ProbeResult&)> done) {
    prober->start(std::move(request), std::move(done));
  };
}

}  // namespace

/// All that lives in the health thread; only `mutex`, `posted` and `wake` are touched by others.
struct Monitor::Thread {
  explicit Thread(Monitor& owner)
      : monitor(owner),
        roster(
            owner.options_.node,
            {.health = [this](const HealthEvent& event) { monitor.output_.health(event); },
             .alert = [this](config::LogLevel level,
                             std::string text) { monitor.output_.alert(level, std::move(text)); },
             .moved = owner.output_.moved},
            owner.options_.caps) {}
  ~Thread() {
    start_probe = nullptr;  // ends what runs, before the loop goes
    resolver.reset();
    due.reset();
    wake.reset();
    if (loop != nullptr) ev_loop_destroy(loop);
  }

  Result<void> open() {
    loop =
        ev_loop_new(static_cast<unsigned>(EVFLAG_NOENV) | static_cast<unsigned>(EVBACKEND_EPOLL));
    if (loop == nullptr) return Error{"health", "no event loop: out of descriptors or memory"};
    wake = std::make_unique<ev::async>(loop);
    wake->set<Thread, &Thread::on_wake>(this);
    wake->start();
    due = std::make_unique<ev::timer>(loop);
    due->set<Thread, &Thread::on_due>(this);
    resolver = std::make_unique<Resolver>(
        loop, monitor.options_.dns_servers,
        Resolver::Output{
            .changed =
                [this](const std::string& name, const std::vector<Address>& addresses) {
                  monitor.output_.addresses(name, addresses);
                },
            .alert = [this](config::LogLevel level,
                            std::string text) { monitor.output_.alert(level, std::move(text)); }});
    const MakeProber& make = monitor.options_.make_prober;
    start_probe = make ? make(loop) : real_prober(loop);
    return {};
  }

  void run() {
    on_wake(*wake, 0);
    if (!stopping) ev_run(loop, 0);  // which would forget that it was told to break before
  }

  void on_wake(ev::async&, int) {
    for (;;) {
      std::vector<std::function<void(Thread&)>> batch;
      {
        const std::lock_guard lock(mutex);
        batch.swap(posted);
      }
      if (batch.empty()) break;
      for (const auto& work : batch) work(*this);
    }
    start_due();
  }

  void on_due(ev::timer&, int) { start_due(); }

  /// Starts what is due, and comes back for what is next.
  void start_due() {
    if (stopping) return;
    for (Roster::Start& each : roster.take_due(steady_now())) run_probe(std::move(each));
    monitor.stood_in_.add(roster.stood_in() - monitor.stood_in_.get());
    come_back(roster.next_due());
  }

  /// At the first tick from `next` on.
  void come_back(std::optional<Time> next) {
    if (!next) return due->stop();
    const Time tick{std::chrono::ceil<Ticks>(std::max(*next, steady_now()).time_since_epoch())};
    if (due->is_active() && tick == planned) return;
    planned = tick;
    due->stop();
    // A timer of libev counts from the loop's own idea of now.
    ev_now_update(loop);
    const std::chrono::duration<double> wait = tick - steady_now();
    due->start(std::max(wait.count(), 0.0));
  }

  void run_probe(Roster::Start start) {
    const Target& target = *start.target;
    if (!target.address) {
      ProbeResult unresolved;
      unresolved.outcome = ProbeOutcome::dns;
      unresolved.words = "[its name has no address]";
      unresolved.step = "dns";
      return done(start, unresolved);
    }
    ProbeRequest request = probe_request(target, start.tier);
    start_probe(std::move(request), [this, start = std::move(start)](const ProbeResult& result) {
      done(start, result);
      // Its place may be what another waits for.
      come_back(roster.waiting() ? steady_now() : roster.next_due());
    });
  }

  void done(const Roster::Start& start, const ProbeResult& result) {
    const Target& target = *start.target;
    if (!result.local_fault) {
      ProbeStats& stats = monitor.stats_[target.id.value];
      stats.outcomes[static_cast<std::size_t>(result.outcome)].add();
      monitor.pools_[target.pool_id.value].durations.add(result.total);
      if (result.tls) {
        stats.not_after.store(result.tls->not_after, std::memory_order_relaxed);
        if (roster.target(target.id) != nullptr)
          for (std::string& warning : certificates.saw(
                   target, *result.tls,
                   std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())))
            monitor.output_.alert(config::LogLevel::warning, std::move(warning));
      }
      remember(target, result);
    }
    roster.concluded(start.ticket, result, steady_now());
    tell_pool(target);
  }

  /// What the roster thinks of its pool's deep probe, where others can read it.
  void tell_pool(const Target& target) {
    PoolProbes& pool = monitor.pools_[target.pool_id.value];
    pool.suspect.store(roster.suspect(target.pool), std::memory_order_relaxed);
    pool.login_refused.store(roster.latched(target.pool), std::memory_order_relaxed);
  }

  void remember(const Target& target, const ProbeResult& result) {
    const std::lock_guard lock(last_mutex);
    LastProbe& seen = last[target.id.value];
    seen.outcome = result.outcome;
    seen.words = result.words;
    seen.step = result.step;
    seen.deep = result.deep;
    seen.took = result.total;
    seen.at = std::chrono::system_clock::now();
    if (result.tls) seen.tls = result.tls;
  }

  void request_of(BackendId backend, bool deep,
                  const std::function<void(std::optional<ProbeRequest>)>& tell) {
    const Target* target = roster.target(backend);
    if (target == nullptr || !target->probed() || !target->address) return tell(std::nullopt);
    ProbeRequest request = probe_request(*target, deep ? Tier::deep : Tier::cheap);
    request.keep_transcript = true;
    tell(std::move(request));
  }

  Monitor& monitor;
  Roster roster;
  Certificates certificates;
  struct ev_loop* loop = nullptr;
  std::unique_ptr<ev::async> wake;
  std::unique_ptr<ev::timer> due;
  std::unique_ptr<Resolver> resolver;
  StartProbe start_probe;
  Time planned{};  ///< when `due` fires, if it is active
  bool stopping = false;

  std::mutex mutex;  ///< guards the next; held for a push or a swap
  std::vector<std::function<void(Thread&)>> posted;

  std::mutex last_mutex;
  std::map<std::uint32_t, LastProbe> last;

  std::thread thread;
};

Monitor::Monitor(Options options, Output output)
    : options_(std::move(options)),
      output_(std::move(output)),
      thread_(std::make_unique<Thread>(*this)) {}

Monitor::~Monitor() {
  stop();
}

Result<void> Monitor::start() {
  if (auto opened = thread_->open(); !opened) return opened;
  running_.store(true, std::memory_order_release);
  try {
    thread_->thread = std::thread([self = thread_.get()] {
      ::pthread_setname_np(::pthread_self(), "health");
      self->run();
    });
  } catch (const std::system_error& error) {
    running_.store(false, std::memory_order_release);
    return Error{"health", error.what()};
  }
  return {};
}

void Monitor::stop() {
  if (!thread_->thread.joinable()) return;
  post([](Thread& self) {
    self.stopping = true;
    ev_break(self.loop, EVBREAK_ALL);
  });
  thread_->thread.join();
  running_.store(false, std::memory_order_release);
}

void Monitor::post(std::function<void(Thread&)> work, bool optional) {
  {
    const std::lock_guard lock(thread_->mutex);
    if (optional && thread_->posted.size() >= kPostedMax) return;
    thread_->posted.push_back(std::move(work));
  }
  if (running_.load(std::memory_order_acquire)) thread_->wake->send();
}

void Monitor::set_targets(std::vector<Target> targets) {
  for (const Target& target : targets) {
    stats_.grow(target.id.value + 1);
    pools_.grow(target.pool_id.value + 1);
  }
  post([targets = std::move(targets)](Thread& self) mutable {
    self.certificates.keep(targets);
    self.roster.set_targets(targets, steady_now());
    for (const Target& target : targets) self.tell_pool(target);
    const std::lock_guard lock(self.last_mutex);
    std::erase_if(self.last, [&](const auto& each) {
      return self.roster.target(BackendId{each.first}) == nullptr;
    });
  });
}

void Monitor::set_names(std::vector<std::string> names) {
  post([names = std::move(names)](Thread& self) { self.resolver->set_names(names); });
}

void Monitor::request_of(BackendId backend, bool deep,
                         std::function<void(std::optional<ProbeRequest>)> done) {
  post([backend, deep, done = std::move(done)](Thread& self) {
    self.request_of(backend, deep, done);
  });
}

void Monitor::probe(ProbeRequest request, std::function<void(const ProbeResult&)> done) {
  post([request = std::move(request), done = std::move(done)](Thread& self) {
    self.start_probe(request, done);
  });
}

void Monitor::probe_soon(BackendId backend) {
  post([backend](Thread& self) { self.roster.soon(backend, steady_now()); }, true);
}

void Monitor::passive(const PassiveEvent& event) {
  post([event](Thread& self) { self.roster.passive(event, steady_now()); }, true);
}

std::optional<LastProbe> Monitor::last(BackendId backend) const {
  const std::lock_guard lock(thread_->last_mutex);
  const auto at = thread_->last.find(backend.value);
  if (at == thread_->last.end()) return std::nullopt;
  return at->second;
}

}  // namespace poise::health
