#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "log/doorbell.h"
#include "log/line.h"
#include "log/ring.h"
#include "poise/config.h"
#include "poise/session_record.h"

namespace poise::log {

/// What may change while workers log.
struct Levels {
  std::atomic<config::LogLevel> level{config::LogLevel::info};
  std::atomic<bool> sessions{true};  ///< lines at a session's end: level info or lower, not stopped
  std::atomic<bool> session_start{false};  ///< and at its start
};

/// One worker's way to the log: a ring that the worker fills and the log thread empties. write()
/// copies some 180 bytes and, at most once in a while, wakes the log thread; it never waits. When
/// the ring is full the line is dropped and counted. Made by Log::add_worker(), which owns it.
class SessionSink {
 public:
  SessionSink(std::size_t ring_bytes, const Levels& levels, Doorbell& doorbell)
      : ring_(ring_bytes), levels_(levels), doorbell_(doorbell) {}

  // --- its worker

  /// Whether a line would be written at all: ask before filling in a record.
  [[nodiscard]] bool enabled() const noexcept {
    return levels_.sessions.load(std::memory_order_relaxed);
  }
  [[nodiscard]] bool start_enabled() const noexcept {
    return levels_.session_start.load(std::memory_order_relaxed);
  }

  void write(const SessionRecord& record) noexcept;
  void write_start(const SessionStart& start) noexcept;

  // --- any thread

  /// Lines that found the ring full.
  [[nodiscard]] std::uint64_t dropped() const noexcept {
    return dropped_.load(std::memory_order_relaxed);
  }

  /// The log thread has taken all that was written.
  [[nodiscard]] bool empty() const noexcept { return ring_.empty(); }

  // --- log thread (or the simulator, which has no log thread)

  enum class Kind : std::uint8_t { none, end, start };

  /// Takes note of what has been written until now; next_time() and take() go that far.
  void refresh() noexcept { ring_.refresh(); }

  /// When the oldest line was written, INT64_MAX when there is none.
  [[nodiscard]] std::int64_t next_unix_us() noexcept;

  /// The oldest line's values; `end.record.tries` is valid until pop().
  [[nodiscard]] Kind front(SessionEnd& end, SessionStart& start) noexcept;
  void pop() noexcept { ring_.pop(); }

  [[nodiscard]] bool waiting() const noexcept { return ring_.waiting(); }
  [[nodiscard]] bool waiting_more_than_half() const noexcept {
    return ring_.waiting_more_than_half();
  }

 private:
  void published() noexcept;
  void drop() noexcept;

  Ring ring_;
  std::atomic<std::uint64_t> dropped_{0};
  const Levels& levels_;
  Doorbell& doorbell_;
};

}  // namespace poise::log
