#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "ctl/client.h"
#include "ctl/table.h"

namespace poise::ctl {

/// The live view: what the daemon says now against what it said an interval ago. Pure but for its
/// memory of the last interval.
class Top {
 public:
  /// A screenful of `status`, `services` and `backends`, `seconds` after the one before.
  std::string screen(const Json& status, const Json& services, const Json& backends, double seconds,
                     const Screen& screen);
  /// One line for logs and pipes: time, sessions a second, sessions open, '*' for each session (or
  /// a share of them) that came in the interval and '-' for each refusal and failed try. Empty the
  /// first time.
  std::string line(const std::string& time, const Json& services, const Json& backends,
                   double seconds);

 private:
  std::vector<Table::Cell> row(const Json& object, const std::string& name,
                               const std::string& state, const char* trouble, double seconds);
  /// Per second since the last call for `key`; negative the first time.
  double rate(const std::string& key, std::uint64_t total, double seconds);

  std::map<std::string, std::uint64_t> totals_;
  std::map<std::string, std::deque<double>> rates_;
};

/// The last figures as one of eight heights each.
[[nodiscard]] std::string sparkline(const std::deque<double>& values);

}  // namespace poise::ctl
