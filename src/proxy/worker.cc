#include "proxy/worker.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "poise/check.h"

namespace poise::proxy {
namespace {

/// With so many receive buffers under queued sends, hand the sends over and take the buffers back
/// before waiting.
constexpr std::size_t kSubmitFirst = 64;
constexpr std::chrono::milliseconds kAcceptPause{100};

/// Untouched pages cost nothing: the slab is as large as the limit and as small as what was ever
/// open at once.
Session* map_slots(std::uint32_t sessions_max) {
  void* memory = ::mmap(nullptr, sessions_max * sizeof(Session), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return static_cast<Session*>(memory);
}

bool out_of_resources(std::int32_t error) {
  return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM;
}

}  // namespace

Worker::Worker(io::Io& io, Registries& registries, Counters& counters, const Tuning& tuning,
               std::uint32_t sessions_max, std::uint64_t first_session_id, Reports reports)
    : core_(io, registries, counters, tuning, sessions_max + registries.refusals_max),
      slots_(map_slots(sessions_max + registries.refusals_max),
             Unmap((sessions_max + registries.refusals_max) * sizeof(Session))),
      slots_max_(sessions_max + registries.refusals_max),
      start_(io.now()) {
  core_.reports = std::move(reports);
  core_.next_session_id = first_session_id;
  core_.random ^= first_session_id * 0xbf58476d1ce4e5b9;
  core_.free_slot = [this](std::uint32_t slot) {
    free_slots_.push_back(slot);
    open_.fetch_sub(1, std::memory_order_relaxed);
    core_.registries.sessions.fetch_sub(1, std::memory_order_relaxed);
    if (accept_again_ != io::Time::max()) accept_again_ = core_.now;  // there is room again
  };
  read_clock();
  keep_spares();
}

/// Descriptors in reserve, to accept and refuse with when all others are taken. While one is
/// missing, clients are refused, and we try to get it back.
void Worker::keep_spares() {
  while (!stop_ && spares_.size() < core_.tuning.spare_descriptors) {
    const int spare = core_.io.open_socket(AF_INET, "system");
    if (spare < 0) {
      accept_again_ = core_.now + kAcceptPause;
      return;
    }
    spares_.push_back(spare);
  }
}

Worker::~Worker() = default;

void Worker::Unmap::operator()(Session* memory) const {
  ::munmap(memory, bytes);
}

void Worker::post(Command command) {
  {
    const std::lock_guard lock(mailbox_mutex_);
    mailbox_.push_back(std::move(command));
  }
  has_mail_.store(true, std::memory_order_release);
  core_.io.wake();
}

void Worker::run() {
  while (step()) {
  }
}

bool Worker::step(bool wait) {
  flush();
  const bool submit_first = core_.in_kernel.size() >= kSubmitFirst;
  const auto batch = submit_first || !wait ? core_.io.submit() : core_.io.wait(next_deadline());
  read_clock();
  dispatch(batch);
  core_.wheel.expire(core_.tick, [this](std::uint32_t slot) { slots_[slot].on_timer(core_); });
  if (accept_again_ <= core_.now) {
    accept_again_ = io::Time::max();
    keep_spares();
    for (std::uint32_t i = 0; i < accepting_.size(); ++i)
      if (!accepting_[i].armed && !accepting_[i].closing) arm(i);
  }
  if (has_mail_.load(std::memory_order_acquire)) take_commands();
  return !(stop_ && open_.load(std::memory_order_relaxed) == 0 && !listening());
}

void Worker::read_clock() {
  core_.now = core_.io.now();
  core_.tick = static_cast<Tick>((core_.now - start_) / kTick) + 1;
}

io::Time Worker::next_deadline() const {
  if (!core_.unflushed.empty() || !core_.to_release.empty()) return io::Time{};
  io::Time until = accept_again_;
  const Tick next = core_.wheel.next();
  if (next != io::TimerWheel::kNever)
    until = std::min(until, start_ + (next - 1) * io::Time(kTick));
  return until;
}

void Worker::dispatch(std::span<const io::Completion> batch) {
  // Shortages first: they speak of what was queued before anything in this batch had happened, and
  // when they are dealt with the buffers they read from can go back.
  if (!core_.in_kernel.empty())
    for (const io::Completion& done : batch)
      if (done.tag.op == io::Op::report) slots_[done.tag.slot].on_report(core_, done);
  begin_epoch();
  for (const io::Completion& done : batch) {
    switch (done.tag.op) {
      case io::Op::report:
      case io::Op::wake:
        break;
      case io::Op::accept:
        on_accept(done);
        break;
      case io::Op::none:
      case io::Op::connect:
      case io::Op::recv:
      case io::Op::send:
      case io::Op::poll_in:
      case io::Op::poll_out:
        CHECK(done.tag.slot < slots_used_);
        slots_[done.tag.slot].on_completion(core_, done);
        break;
    }
  }
}

void Worker::begin_epoch() {
  ++core_.epoch;
  for (const std::uint16_t buffer : core_.in_kernel) core_.io.release_buffer(buffer);
  core_.in_kernel.clear();
  // release_if_quiet() may end a session, never add one here: the epoch has moved on.
  for (const std::uint32_t slot : core_.to_release) slots_[slot].release_if_quiet(core_);
  core_.to_release.clear();
}

void Worker::flush() {
  for (std::size_t i = 0; i < core_.unflushed.size(); ++i) {
    const Unflushed& work = core_.unflushed[i];
    Session& session = slots_[work.slot];
    if (session.generation() == work.generation) session.flush(core_, work.direction);
  }
  core_.unflushed.clear();
}

// ---- listeners
// -----------------------------------------------------------------------------------------------------

void Worker::arm(std::uint32_t listener) {
  core_.io.accept(accepting_[listener].listener.fd,
                  io::Tag{.slot = listener, .op = io::Op::accept});
  accepting_[listener].armed = true;
}

/// A client is here: give it a slot, or shed it.
void Worker::admit(const Listener& listener, int client) {
  // Reserved before it is used, so that the limit holds over all workers.
  const std::uint32_t before = core_.registries.sessions.fetch_add(1, std::memory_order_relaxed);
  const bool room = !free_slots_.empty() || slots_used_ < slots_max_;
  const std::uint32_t sessions_max = core_.registries.sessions_max;
  const bool full = before >= sessions_max || spares_.size() < core_.tuning.spare_descriptors;
  if (before >= sessions_max)
    core_.warn(Warning::slots,
               "a client was turned away: {} sessions are open and no more fit; raise LimitNOFILE",
               before);
  if (before >= sessions_max + core_.registries.refusals_max || !room) {
    core_.registries.sessions.fetch_sub(1, std::memory_order_relaxed);
    core_.counters.worker.sessions_shed.add();
    core_.counters.services[listener.service.value]
        .refusals[static_cast<std::size_t>(RefusalReason::bare)]
        .add();
    core_.io.close(client);
    return;
  }
  std::uint32_t slot = slots_used_;
  if (!free_slots_.empty()) {
    slot = free_slots_.back();
    free_slots_.pop_back();
  } else {
    new (&slots_[slots_used_++]) Session();
  }
  open_.fetch_add(1, std::memory_order_relaxed);
  slots_[slot].start(core_, slot, client, core_.service(listener.service), listener.address, full);
}

/// The listener is about to be closed, and the kernel resets whom it has queued: serve them.
void Worker::take_queued(const Accepting& accepting) {
  constexpr int kQueuedMax = 65536;  // no backlog is longer
  for (int count = 0; count < kQueuedMax; ++count) {
    const int client = core_.io.accept_now(accepting.listener.fd);
    if (client < 0) return;
    admit(accepting.listener, client);
  }
}

void Worker::on_accept(const io::Completion& done) {
  CHECK(done.tag.slot < accepting_.size());
  Accepting& accepting = accepting_[done.tag.slot];
  if (!done.more) accepting.armed = false;
  if (done.res >= 0) {
    admit(accepting.listener, done.res);
  } else if (out_of_resources(done.res)) {
    core_.counters.worker.accept_paused.add();
    core_.warn(Warning::descriptors,
               "accept on {}: {}; clients are turned away, or wait in the kernel's queue",
               accepting.listener.address.text(), std::strerror(-done.res));
    accept_again_ = std::min(accept_again_, core_.now + kAcceptPause);
    // With a spare descriptor the client can at least be told. Without one it stays in the kernel's
    // queue; we look again when a session has ended, or in a moment.
    if (spares_.empty()) {
      if (accepting.closing && !accepting.armed) listener_closed(done.tag.slot);
      return;
    }
    core_.io.close(spares_.back());
    spares_.pop_back();
  }
  if (accepting.armed) return;
  if (accepting.closing) {
    listener_closed(done.tag.slot);
  } else {
    arm(done.tag.slot);  // -ECONNABORTED and its like end a multishot, not a listener
  }
}

// ---- commands
// ------------------------------------------------------------------------------------------------------

void Worker::take_commands() {
  std::vector<Command> commands;
  {
    const std::lock_guard lock(mailbox_mutex_);
    commands.swap(mailbox_);
    has_mail_.store(false, std::memory_order_relaxed);
  }
  for (const Command& command : commands)
    std::visit([this](const auto& each) { apply(each); }, command);
}

void Worker::apply(const Place& place) {
  CHECK(place.slot < slots_used_);
  Session& session = slots_[place.slot];
  if (session.generation() == place.generation && session.state() == State::queued)
    return session.take_place(core_, place);
  Session::give_back(core_, place);
}

void Worker::apply(const Publish& command) {
  core_.snapshot = command.snapshot;
  // Who waits may have somewhere to go now.
  for (const Service& service : core_.snapshot->services) Session::serve_waiters(core_, service);
  acknowledged_.store(command.snapshot->version, std::memory_order_release);
}

void Worker::apply(const Listen& command) {
  for (const Listener& listener : command.listeners) {
    auto entry = std::find_if(accepting_.begin(), accepting_.end(), [](const Accepting& each) {
      return each.closing && !each.armed;  // nothing will come for it any more
    });
    if (entry == accepting_.end()) entry = accepting_.emplace(entry);
    *entry = Accepting{.listener = listener, .closed = {}};
    arm(static_cast<std::uint32_t>(entry - accepting_.begin()));
  }
  if (!accepting_.empty()) listening_.store(true, std::memory_order_release);
}

void Worker::apply(const StopListening& /*command*/) {
  for (std::uint32_t i = 0; i < accepting_.size(); ++i)
    if (!accepting_[i].closing) close_listener(i);
  accept_again_ = io::Time::max();
  if (accepting_.empty()) listening_.store(false, std::memory_order_release);
}

void Worker::apply(const CloseListener& command) {
  for (std::uint32_t i = 0; i < accepting_.size(); ++i) {
    if (accepting_[i].closing || accepting_[i].listener.fd != command.fd) continue;
    accepting_[i].closed = command.done;
    return close_listener(i);
  }
  command.done();  // StopListening was here before
}

void Worker::close_listener(std::uint32_t listener) {
  accepting_[listener].closing = true;
  if (accepting_[listener].armed)
    core_.io.cancel(io::Tag{.slot = listener, .op = io::Op::accept});
  else
    listener_closed(listener);
}

/// No accept is armed on it any more.
void Worker::listener_closed(std::uint32_t listener) {
  take_queued(accepting_[listener]);
  if (accepting_[listener].closed) std::exchange(accepting_[listener].closed, {})();
  if (std::all_of(accepting_.begin(), accepting_.end(),
                  [](const Accepting& each) { return each.closing && !each.armed; }))
    listening_.store(false, std::memory_order_release);
}

void Worker::apply(const Release& command) {
  std::uint32_t released = 0;
  for (std::uint32_t slot = 0; slot < slots_used_ && released < command.at_most; ++slot) {
    Session& session = slots_[slot];
    if (session.state() != State::relaying) continue;
    if (command.backend && session.backend() != command.backend) continue;
    if (command.service && session.service() != command.service) continue;
    if (!command.even_if_owed && session.owed()) continue;
    session.close(core_, command.reason);
    ++released;
  }
}

void Worker::apply(const Visit& command) {
  command.work(core_, {slots_.get(), slots_used_});
}

void Worker::apply(const Stop& command) {
  stop_ = true;
  for (const int spare : spares_) core_.io.close(spare);
  spares_.clear();
  if (!command.at_once) return;
  for (std::uint32_t slot = 0; slot < slots_used_; ++slot) slots_[slot].shut_down(core_);
}

}  // namespace poise::proxy
