#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "log/line.h"
#include "log/names.h"

namespace poise::log {

/// A session that was refused, or that more than one backend was tried for, with what the servers
/// said.
struct RecentSession {
  struct Try {
    std::string backend;
    std::string outcome;
    std::string words;  ///< printable; the server's first line, cut
  };

  std::uint64_t id = 0;
  std::int64_t ended_unix_us = 0;
  Address client;
  std::string service;
  std::string backend;  ///< who served it; empty: nobody
  std::string reason;   ///< the refusal's; empty: served
  double total_seconds = 0;
  std::vector<Try> tries;
};

/// The last of each kind, for those who ask what is going wrong now. Filled in by the log thread;
/// any thread may copy. Sees the sessions that are logged: none while log.level is above info.
class Recent {
 public:
  static constexpr std::size_t kMax = 200;

  void see(const SessionEnd& end, const NameTable& names);
  [[nodiscard]] std::vector<RecentSession> refusals() const;
  [[nodiscard]] std::vector<RecentSession> retries() const;

 private:
  mutable std::mutex mutex_;
  std::deque<RecentSession> refusals_, retries_;
};

}  // namespace poise::log
