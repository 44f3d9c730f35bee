#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

#include "health/schedule.h"

namespace poise::health {

/// Keeps one flapping backend from filling the log: at most kLines lines about it a kWindow; the
/// first one after that says how many were left out. Metrics and events count every change. Pure.
class TransitionLog {
 public:
  static constexpr unsigned kLines = 6;
  static constexpr std::chrono::seconds kWindow{60};

  /// Whether to write a line now, and how many were left out since the last one.
  std::optional<unsigned> admit(Time now) {
    if (lines_ == 0 || now >= began_ + kWindow) {
      began_ = now;
      lines_ = 0;
    }
    if (lines_ >= kLines) {
      ++left_out_;
      return std::nullopt;
    }
    ++lines_;
    return std::exchange(left_out_, 0u);
  }

  /// What was left out and will not be told by a later line, because the backend has become quiet:
  /// call now and then. 0: nothing.
  unsigned overdue(Time now) { return now >= began_ + kWindow ? std::exchange(left_out_, 0u) : 0; }

 private:
  Time began_{};
  unsigned lines_ = 0, left_out_ = 0;
};

}  // namespace poise::health
