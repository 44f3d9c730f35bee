#include "log/log.h"

#include <poll.h>
#include <pthread.h>
#include <spdlog/details/log_msg.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iterator>
#include <system_error>
#include <utility>

#include "log/escape.h"
#include "log/fd_sink.h"

namespace poise::log {

namespace {

using std::chrono::steady_clock;

/// How often dropped lines are spoken of while it goes on.
constexpr std::chrono::seconds kReportInterval{1};

std::int64_t unix_us_now() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::chrono::milliseconds steady_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
      steady_clock::now().time_since_epoch());
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warning:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

/// Signals are for main; those that a write causes (SIGPIPE, SIGXFSZ) become its errno. New threads
/// inherit the mask.
class AllSignalsBlocked {
 public:
  AllSignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP})
      sigdelset(&all, fault);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~AllSignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  AllSignalsBlocked(const AllSignalsBlocked&) = delete;
  AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

Log::Log(Options options)
    : options_(options),
      limiter_(options.limited_burst, options.limited_interval),
      formatter_(names_) {
  set_level(options_.level, options_.session_start);
}

Log::~Log() {
  stop();
}

Result<void> Log::start() {
  if (!doorbell_.open())
    return Error{"log", fmt::format("eventfd: {}; raise LimitNOFILE", std::strerror(errno))};
  if (options_.target == config::LogTarget::stderr_) {
    sink_ = std::make_unique<FdSink>(options_.fd, options_.format);
  } else {
    auto local = std::make_unique<LocalLog>(options_.target, options_.format, options_.local_path);
    if (auto opened = local->open(); !opened) return opened;
    sink_ = std::make_unique<FdSink>(std::move(local));
  }
  try {
    const AllSignalsBlocked blocked;
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    return Error{"log",
                 fmt::format("thread: {}; raise TasksMax or LimitNPROC", error.code().message())};
  }
  pthread_setname_np(thread_.native_handle(), "log");
  return {};
}

void Log::stop() {
  levels_.sessions.store(false, std::memory_order_relaxed);
  levels_.session_start.store(false, std::memory_order_relaxed);
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  if (!thread_.joinable()) return;
  stop_.store(true, std::memory_order_seq_cst);
  doorbell_.wake();
  thread_.join();
}

SessionSink* Log::add_worker() {
  const std::lock_guard lock(mutex_);
  sinks_.push_back(std::make_unique<SessionSink>(options_.ring_bytes, levels_, doorbell_));
  return sinks_.back().get();
}

void Log::set_level(Level level, bool session_start) {
  const bool sessions = level <= Level::info;
  levels_.level.store(level, std::memory_order_relaxed);
  levels_.sessions.store(sessions, std::memory_order_relaxed);
  levels_.session_start.store(sessions && session_start, std::memory_order_relaxed);
}

std::uint64_t Log::dropped() const {
  std::uint64_t sum =
      events_dropped_.load(std::memory_order_relaxed) + lines_lost_.load(std::memory_order_relaxed);
  const std::lock_guard lock(mutex_);
  for (const std::unique_ptr<SessionSink>& sink : sinks_) sum += sink->dropped();
  return sum;
}

void Log::message_text(Level level, fmt::string_view format, fmt::format_args args) noexcept {
  try {
    post(level, fmt::vformat(format, args));
  } catch (const std::exception&) {  // out of memory
    events_dropped_.fetch_add(1, std::memory_order_relaxed);
  }
}

void Log::limited_text(std::size_t kind, Level level, fmt::string_view format,
                       fmt::format_args args) noexcept {
  try {
    switch (limiter_.admit(kind, steady_ms())) {
      case Limiter::Verdict::admitted: {
        std::string text = fmt::vformat(format, args);
        limiter_.said(kind, level, text);
        return post(level, std::move(text));
      }
      case Limiter::Verdict::suppressed_first:
        // The log thread learns that it has to wake at the end of the interval.
        events_waiting_.store(true, std::memory_order_seq_cst);
        return doorbell_.ring(true);
      case Limiter::Verdict::suppressed:
        return;
    }
  } catch (const std::exception&) {
    events_dropped_.fetch_add(1, std::memory_order_relaxed);
  }
}

void Log::post(Level level, std::string text) noexcept {
  try {
    const std::lock_guard lock(mutex_);
    if (closed_ || events_.size() >= options_.messages_max) {
      events_dropped_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    events_.push_back({unix_us_now(), level, std::move(text)});
  } catch (const std::exception&) {
    events_dropped_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  events_waiting_.store(true, std::memory_order_seq_cst);
  doorbell_.ring(true);
}

void Log::run() {
  for (;;) {
    const bool stopping = stop_.load(std::memory_order_seq_cst);
    if (stopping)
      stop_deadline_ = std::min(stop_deadline_, steady_clock::now() + options_.stop_timeout);
    const bool any = pass(stopping);
    if (stopping) return;
    if (any) {
      // While lines keep coming the thread looks every `linger` and workers needn't wake it.
      sleep(Doorbell::Sleep::napping, static_cast<int>(options_.linger.count()));
    } else {
      sleep(Doorbell::Sleep::asleep, until_due_ms());
      // The first line after a silence: others may follow it.
      if (!must_wake(Doorbell::Sleep::napping)) {
        sleep(Doorbell::Sleep::napping, static_cast<int>(options_.linger.count()));
      }
    }
  }
}

/// Something that the thread must not sleep on.
bool Log::must_wake(Doorbell::Sleep sleep) {
  if (stop_.load(std::memory_order_seq_cst) || events_waiting_.load(std::memory_order_seq_cst))
    return true;
  if (sleep == Doorbell::Sleep::napping) {
    return std::any_of(rings_.begin(), rings_.end(),
                       [](SessionSink* sink) { return sink->waiting_more_than_half(); });
  }
  return std::any_of(rings_.begin(), rings_.end(),
                     [](SessionSink* sink) { return sink->waiting(); });
}

void Log::sleep(Doorbell::Sleep sleep, int timeout_ms) {
  doorbell_.fall(sleep);
  if (!must_wake(sleep)) {
    pollfd rung{doorbell_.fd(), POLLIN, 0};
    if (::poll(&rung, 1, timeout_ms) > 0) doorbell_.answer();
  }
  doorbell_.fall(Doorbell::Sleep::awake);
}

/// Until something is to be said that nobody will ring for; -1: nothing.
int Log::until_due_ms() {
  auto due = steady_clock::time_point::max();
  if (!report_failed_ && reported_dropped_ != dropped()) due = report_due_;
  if (const auto ends = limiter_.next_due()) due = std::min(due, steady_clock::time_point(*ends));
  if (due == steady_clock::time_point::max()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(due - steady_clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

/// Formats and writes all that is there, in the order of time. True when there was a session line.
bool Log::pass(bool stopping) {
  events_waiting_.store(false, std::memory_order_seq_cst);
  batch_.clear();
  {
    const std::lock_guard lock(mutex_);
    std::swap(batch_, events_);
    for (std::size_t i = rings_.size(); i < sinks_.size(); ++i) rings_.push_back(sinks_[i].get());
  }
  const auto summary = [this](Level level, std::string text) {
    batch_.push_back({unix_us_now(), level, std::move(text)});
  };
  if (stopping)
    limiter_.expire_all(summary);
  else
    limiter_.expire(steady_ms(), summary);

  for (SessionSink* ring : rings_) ring->refresh();
  bool any = false;
  for (auto event = batch_.begin();;) {
    // The ring with the oldest line writes until another source has an older one.
    SessionSink* oldest = nullptr;
    std::int64_t oldest_us = INT64_MAX;
    std::int64_t until_us = event != batch_.end() ? event->unix_us : INT64_MAX;
    const std::int64_t event_us = until_us;
    for (SessionSink* ring : rings_) {
      const std::int64_t us = ring->next_unix_us();
      if (us < oldest_us) {
        until_us = std::min(until_us, oldest_us);
        oldest_us = us;
        oldest = ring;
      } else {
        until_us = std::min(until_us, us);
      }
    }
    if (oldest != nullptr && oldest_us <= event_us) {
      any = true;
      write_sessions(*oldest, until_us);
    } else if (event != batch_.end()) {
      write_event(*event++);
    } else {
      break;
    }
  }
  write_lines();
  report_dropped(stopping);
  return any;
}

void Log::write_sessions(SessionSink& sink, std::int64_t until_unix_us) {
  SessionEnd end;
  SessionStart start;
  do {
    char* const line = sink_->append_begin(LineFormatter::kLineBytesMax);
    switch (sink.front(end, start)) {
      case SessionSink::Kind::end:
        sink_->append_end(formatter_.session_end(line, end));
        recent_.see(end, names_);
        break;
      case SessionSink::Kind::start:
        sink_->append_end(formatter_.session_start(line, start));
        break;
      case SessionSink::Kind::none:
        return;
    }
    sink.pop();
    if (sink_->buffered_bytes() >= FdSink::kBatchBytes) write_lines();
  } while (sink.next_unix_us() <= until_unix_us);
}

void Log::write_event(const Event& event) {
  std::string text;
  bool cut = false;
  escape(event.text, Escape::line, [&](std::string_view piece) {
    cut = cut || text.size() + piece.size() > kMessageBytesMax;
    if (!cut) text.append(piece);
  });
  if (cut) text.append("…");
  const spdlog::log_clock::time_point time{std::chrono::duration_cast<spdlog::log_clock::duration>(
      std::chrono::microseconds{event.unix_us})};
  sink_->log({time, spdlog::source_loc{}, "", to_spdlog(event.level), text});
  if (sink_->buffered_bytes() >= FdSink::kBatchBytes) write_lines();
}

/// Returns with an empty buffer, and how many lines it held that could not be written. A slow
/// reader holds this thread here; the rings fill up meanwhile, and what finds them full is dropped
/// by the workers.
std::uint64_t Log::write_out() {
  while (sink_->write_out() == FdSink::Progress::stalled) {
    if (!wait_for_output()) sink_->abandon();
  }
  return sink_->take_lost_lines();
}

void Log::write_lines() {
  const std::uint64_t lost = write_out();
  if (lost > 0) lines_lost_.fetch_add(lost, std::memory_order_relaxed);
}

/// False when stop() has waited long enough.
bool Log::wait_for_output() {
  if (stop_.load(std::memory_order_seq_cst)) {
    stop_deadline_ = std::min(stop_deadline_, steady_clock::now() + options_.stop_timeout);
  }
  int timeout_ms = -1;
  if (stop_deadline_ != steady_clock::time_point::max()) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(stop_deadline_ - steady_clock::now()).count();
    if (left <= 0) return false;
    timeout_ms = static_cast<int>(left);
  }
  // An error on the descriptor (POLLERR: the reader is gone) ends the wait too; the next write
  // names it.
  pollfd waits[] = {{sink_->fd(), POLLOUT, 0}, {doorbell_.fd(), POLLIN, 0}};
  if (::poll(waits, std::size(waits), timeout_ms) > 0 && waits[1].revents != 0) doorbell_.answer();
  return true;
}

/// Says that lines are missing, at most once in kReportInterval. A report that can't be written is
/// no dropped line; it is tried again when there are other lines to write, so that a broken output
/// costs nothing while nobody logs.
void Log::report_dropped(bool stopping) {
  const std::uint64_t lost = lines_lost_.load(std::memory_order_relaxed);
  const std::uint64_t all = std::max(dropped(), lost);
  const auto now = steady_clock::now();
  if (all == reported_dropped_ || (now < report_due_ && !stopping)) return;
  std::string why;
  if (lost > reported_lost_) {
    why = fmt::format("{} of them because writing failed ({})", lost - reported_lost_,
                      sink_->last_error() == 0 ? "stopped" : std::strerror(sink_->last_error()));
  } else {
    why = "the output took them too slowly";
  }
  write_event({unix_us_now(), Level::warning,
               fmt::format("log: {} lines dropped, {} since the start: {}", all - reported_dropped_,
                           all, why)});
  report_due_ = now + kReportInterval;
  report_failed_ = write_out() > 0;
  if (report_failed_) return;
  reported_dropped_ = all;
  reported_lost_ = lost;
}

}  // namespace poise::log
