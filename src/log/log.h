#pragma once

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "log/doorbell.h"
#include "log/limiter.h"
#include "log/names.h"
#include "log/recent.h"
#include "log/session_sink.h"
#include "poise/config.h"
#include "poise/result.h"
#include "poise/session_record.h"

namespace poise::log {

using Level = config::LogLevel;

class FdSink;

struct Options {
  Level level = Level::info;
  bool session_start = false;
  config::LogTarget target = config::LogTarget::stderr_;
  config::LogFormat format = config::LogFormat::text;
  std::string local_path{};  ///< the socket of journal and syslog; empty: the usual one
  int fd = 2;                ///< of stderr_; stays the caller's; open until the Log is gone
  std::size_t ring_bytes =
      1 << 20;  ///< a worker: some 5,500 sessions; touched only as far as it was ever filled
  std::size_t messages_max = 4096;  ///< event lines waiting for the log thread
  std::chrono::milliseconds linger{
      50};  ///< how long session lines are collected before the thread looks again
  std::chrono::milliseconds stop_timeout{
      2000};                        ///< how long stop() waits for a reader that doesn't read
  std::uint32_t limited_burst = 5;  ///< limited(): lines of one kind ...
  std::chrono::milliseconds limited_interval{10000};  ///< ... in this time
};

/// The log: one line per ended session from the workers, and event lines from anybody, in the order
/// of their times as far as they are at hand together. One thread formats and writes; nobody else
/// ever waits for the output. What can't be kept (a ring or the queue is full, the output is
/// broken) is dropped, counted, and said once it can be said.
///
/// Owned by main: made first, started after the uid has changed (the thread must have the final
/// credentials), stopped last. Event lines before start() wait in the queue. Errors of the output
/// are never errors of the process.
class Log {
 public:
  explicit Log(Options options);
  ~Log();  ///< stops
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  /// Fails when the process is out of descriptors or threads.
  [[nodiscard]] Result<void> start();

  /// Writes what is there, bounded by stop_timeout, says how many lines were dropped, and ends the
  /// thread. Workers have ended or see enabled() false from now on; later event lines are dropped.
  void stop();

  /// A worker's own sink, valid as long as the Log; control thread, before that worker starts.
  [[nodiscard]] SessionSink* add_worker();

  /// Names for the ids in session lines.
  [[nodiscard]] NameTable& names() { return names_; }

  /// On reload. Control thread.
  void set_level(Level level, bool session_start);

  [[nodiscard]] bool enabled(Level level) const noexcept {
    return level >= levels_.level.load(std::memory_order_relaxed);
  }

  /// An event line: "2026-11-21T18:50:17.123Z warning TEXT". Control bytes and what is not UTF-8
  /// are escaped, and it is cut at kMessageBytesMax. Any thread; takes a mutex that is never held
  /// during I/O or formatting.
  template <class... Args>
  void message(Level level, fmt::format_string<Args...> format, Args&&... args) noexcept {
    if (enabled(level)) message_text(level, format, fmt::make_format_args(args...));
  }

  /// The lines of the process's own life (ready, stopping, stopped): said as info, and whatever the
  /// level is.
  template <class... Args>
  void always(fmt::format_string<Args...> format, Args&&... args) noexcept {
    message_text(Level::info, format, fmt::make_format_args(args...));
  }

  /// For what peers can cause: at most Options::limited_burst lines of a `kind` (a number of the
  /// caller's, below Limiter::kKinds) per interval, then one that says how many more there were.
  /// Suppressed ones are not formatted.
  template <class... Args>
  void limited(std::size_t kind, Level level, fmt::format_string<Args...> format,
               Args&&... args) noexcept {
    if (enabled(level)) limited_text(kind, level, format, fmt::make_format_args(args...));
  }

  /// All lines that were never written; poise_log_dropped_total. Any thread.
  [[nodiscard]] std::uint64_t dropped() const;

  /// The last sessions that were refused or tried elsewhere. Any thread.
  [[nodiscard]] const Recent& recent() const { return recent_; }

  static constexpr std::size_t kMessageBytesMax = 2000;

 private:
  struct Event {
    std::int64_t unix_us;
    Level level;
    std::string text;
  };

  void message_text(Level level, fmt::string_view format, fmt::format_args args) noexcept;
  void limited_text(std::size_t kind, Level level, fmt::string_view format,
                    fmt::format_args args) noexcept;
  void post(Level level, std::string text) noexcept;

  // --- log thread
  void run();
  bool pass(bool stopping);
  void write_sessions(SessionSink& sink, std::int64_t until_unix_us);
  void write_event(const Event& event);
  [[nodiscard]] std::uint64_t write_out();
  void write_lines();
  bool wait_for_output();
  void report_dropped(bool stopping);
  void sleep(Doorbell::Sleep sleep, int timeout_ms);
  [[nodiscard]] bool must_wake(Doorbell::Sleep sleep);
  [[nodiscard]] int until_due_ms();

  const Options options_;
  NameTable names_;
  Recent recent_;
  Levels levels_;
  Doorbell doorbell_;
  Limiter limiter_;

  mutable std::mutex mutex_;  ///< guards the next three; held for a push or a swap
  std::vector<std::unique_ptr<SessionSink>> sinks_;
  std::vector<Event> events_;
  bool closed_ = false;
  std::atomic<bool> events_waiting_{false};
  std::atomic<std::uint64_t> events_dropped_{0};
  std::atomic<std::uint64_t> lines_lost_{0};  ///< by the output

  std::atomic<bool> stop_{false};
  std::thread thread_;

  // The log thread's own.
  std::unique_ptr<FdSink> sink_;
  LineFormatter formatter_;
  std::vector<SessionSink*> rings_;
  std::vector<Event> batch_;
  std::uint64_t reported_dropped_ = 0;
  std::uint64_t reported_lost_ = 0;
  bool report_failed_ = false;
  std::chrono::steady_clock::time_point report_due_{};
  std::chrono::steady_clock::time_point stop_deadline_ =
      std::chrono::steady_clock::time_point::max();
};

}  // namespace poise::log
