#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

namespace poise::control {

/// How many sessions began in each of the last intervals, by an id that counts from 0: what the
/// charts of the status page show of the time before it was opened. At most kKept intervals, four
/// bytes for each id and interval. Pure. Control thread only.
class History {
 public:
  static constexpr std::chrono::seconds kInterval{2};
  static constexpr std::size_t kKept = 150;

  /// Once an interval: how many sessions of each id have begun since the start. What an id had at
  /// its first time belongs to no interval; a total that went back counts as no session.
  void add(std::vector<std::uint64_t> totals) {
    std::vector<std::uint32_t> begun(totals.size());
    for (std::size_t id = 0; id < totals.size() && id < last_.size(); ++id)
      if (totals[id] > last_[id]) begun[id] = static_cast<std::uint32_t>(totals[id] - last_[id]);
    if (!last_.empty()) {
      if (intervals_.size() == kKept) intervals_.pop_front();
      intervals_.push_back(std::move(begun));
    }
    last_ = std::move(totals);
  }

  /// Oldest first.
  [[nodiscard]] std::vector<std::uint32_t> of(std::size_t id) const {
    std::vector<std::uint32_t> counts;
    counts.reserve(intervals_.size());
    for (const auto& each : intervals_) counts.push_back(id < each.size() ? each[id] : 0);
    return counts;
  }

 private:
  std::vector<std::uint64_t> last_;
  std::deque<std::vector<std::uint32_t>> intervals_;
};

}  // namespace poise::control
