#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "poise/config.h"

namespace poise::log {

/// Keeps lines that a peer can cause from flooding the log: of each kind at most `burst` an
/// interval, then one line that says how many more there were. Time is a value (milliseconds of any
/// steady clock). Any thread; each kind has its own mutex, held for a comparison and, for what is
/// admitted first, a copy of its text.
class Limiter {
 public:
  static constexpr std::size_t kKinds = 64;
  using Milliseconds = std::chrono::milliseconds;

  enum class Verdict : std::uint8_t {
    admitted,
    suppressed_first,  ///< the first too many: from now on next_due() has a time
    suppressed,
  };

  Limiter(std::uint32_t burst, Milliseconds interval) : burst_(burst), interval_(interval) {}

  /// `kind` is below kKinds; an interval starts with the first line of a kind after the one before
  /// has ended.
  [[nodiscard]] Verdict admit(std::size_t kind, Milliseconds now);

  /// What an admitted line said: the sample in the summary of its interval is the first one.
  void said(std::size_t kind, config::LogLevel level, std::string_view text);

  /// Calls `report(level, "… and 123 more like this: SAMPLE")` for each kind whose interval has
  /// ended.
  void expire(Milliseconds now, const std::function<void(config::LogLevel, std::string)>& report);

  /// expire() regardless of time; at the end.
  void expire_all(const std::function<void(config::LogLevel, std::string)>& report);

  /// When expire() has something to do; none while nothing is suppressed.
  [[nodiscard]] std::optional<Milliseconds> next_due();

 private:
  struct Kind {
    std::mutex mutex;
    Milliseconds started{Milliseconds::min()};
    std::uint32_t admitted = 0;
    std::uint64_t suppressed = 0;
    config::LogLevel level = config::LogLevel::info;
    std::string sample;
  };

  void report_one(Kind& kind, const std::function<void(config::LogLevel, std::string)>& report);

  const std::uint32_t burst_;
  const Milliseconds interval_;
  std::array<Kind, kKinds> kinds_;
};

}  // namespace poise::log
