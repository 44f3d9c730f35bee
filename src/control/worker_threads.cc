#include "control/worker_threads.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <chrono>

#include "io/uring.h"

namespace poise::control {

/// A worker, its thread, and what must outlive both.
struct WorkerThreads::Thread {
  proxy::Counters counters;
  log::SessionSink* sink = nullptr;
  proxy::Worker* worker = nullptr;  ///< lives in the thread, which made it
  std::atomic<bool> ended{false};
  std::atomic<bool> asked{false};  ///< owes a sign of life
  std::promise<void> may_leave;    ///< the worker stays until control no longer looks at it
  std::thread thread;
};

WorkerThreads::WorkerThreads(proxy::Registries& registries, log::Log& log,
                             std::function<void(const proxy::Trouble&)> trouble)
    : registries_(registries), log_(log), trouble_(std::move(trouble)) {}

WorkerThreads::~WorkerThreads() {
  stop(true);
}

Result<void> WorkerThreads::start(unsigned count) {
  for (unsigned number = 0; number < count; ++number) {
    auto self = std::make_unique<Thread>();
    self->sink = log_.add_worker();
    std::promise<Result<void>> started;
    auto outcome = started.get_future();
    Thread* thread = self.get();
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
                               first_id, reports(thread->sink, number));
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
    threads_.push_back(std::move(self));
  }
  return {};
}

proxy::Reports WorkerThreads::reports(log::SessionSink* sink, std::uint32_t worker) {
  return {
      .sessions = sink,
      .events = &log_,
      .trouble = trouble_,
      // Workers wait for each other's sessions only once all of them accept, so threads_ is whole.
      .hand_over = [this](std::uint32_t to,
                          const proxy::Place& place) { threads_[to]->worker->post(place); },
      .worker = worker};
}

void WorkerThreads::post(std::size_t worker, proxy::Command command) {
  threads_[worker]->worker->post(std::move(command));
}

void WorkerThreads::post(const proxy::Command& command) {
  for (const auto& each : threads_) each->worker->post(command);
}

void WorkerThreads::publish(std::unique_ptr<const proxy::Snapshot> snapshot, std::uint32_t pairs,
                            std::uint32_t services, std::uint32_t pools) {
  snapshots_.push_back(std::move(snapshot));
  for (const auto& each : threads_) {
    each->counters.pairs.grow(pairs);
    each->counters.services.grow(services);
    each->counters.durations.grow(services);
    each->counters.queue_waits.grow(pools);
  }
  post(proxy::Publish{snapshots_.back().get()});
}

bool WorkerThreads::settled() {
  if (snapshots_.empty()) return true;
  const std::uint64_t current = snapshots_.back()->version;
  const bool all = std::all_of(threads_.begin(), threads_.end(), [current](const auto& each) {
    return each->worker->acknowledged_version() >= current ||
           each->ended.load(std::memory_order_acquire);
  });
  if (all) snapshots_.erase(snapshots_.begin(), snapshots_.end() - 1);
  return all;
}

std::optional<std::size_t> WorkerThreads::ask_alive() {
  std::optional<std::size_t> silent;
  for (std::size_t number = 0; number < threads_.size(); ++number) {
    Thread* const thread = threads_[number].get();
    if (thread->ended.load(std::memory_order_acquire)) continue;
    if (thread->asked.exchange(true, std::memory_order_acq_rel))
      silent = number;
    else
      thread->worker->post(proxy::Visit{[thread](proxy::Core&, std::span<proxy::Session>) {
        thread->asked.store(false, std::memory_order_release);
      }});
  }
  return silent;
}

bool WorkerThreads::all_listening() const {
  return std::all_of(threads_.begin(), threads_.end(),
                     [](const auto& each) { return each->worker->listening(); });
}

bool WorkerThreads::none_listening() const {
  return std::none_of(threads_.begin(), threads_.end(),
                      [](const auto& each) { return each->worker->listening(); });
}

bool WorkerThreads::all_ended() const {
  return std::all_of(threads_.begin(), threads_.end(),
                     [](const auto& each) { return each->ended.load(std::memory_order_acquire); });
}

const proxy::Counters& WorkerThreads::counters(std::size_t worker) const {
  return threads_[worker]->counters;
}

PairSums& PairSums::operator+=(const PairSums& other) {
  sessions += other.sessions;
  cut += other.cut;
  to_client += other.to_client;
  to_backend += other.to_backend;
  retries += other.retries;
  return *this;
}

PairSums WorkerThreads::sums(std::uint32_t pair) const {
  PairSums sums;
  for (const auto& each : threads_) {
    const PairCounters& counters = each->counters.pairs[pair];
    for (const Counter& counter : counters.sessions_ended) sums.sessions += counter.get();
    sums.cut += counters.sessions_ended[static_cast<std::size_t>(CloseReason::shutdown)].get();
    sums.to_backend += counters.bytes[static_cast<std::size_t>(io::Direction::to_backend)].get();
    sums.to_client += counters.bytes[static_cast<std::size_t>(io::Direction::to_client)].get();
    for (const Counter& counter : counters.retries) sums.retries += counter.get();
  }
  return sums;
}

void WorkerThreads::stop(bool at_once) {
  for (const auto& each : threads_) {
    if (at_once) {
      each->worker->post(proxy::StopListening{});
      each->worker->post(proxy::Stop{.at_once = true});
    }
    each->may_leave.set_value();
    each->thread.join();
  }
  threads_.clear();
}

}  // namespace poise::control
