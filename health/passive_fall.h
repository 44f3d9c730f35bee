#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>

#include "health/schedule.h"

namespace poise::health {

/// Counts one backend's failures that no client can cause: connects refused, unreachable or timed
/// out. Enough of them are `fall` within `window`, with no good greeting to any client in between,
/// and from at least two clients' prefixes within the window: one client alone, whatever is wrong
/// with its path, takes nobody out. Pure; health thread.
class PassiveFall {
 public:
  PassiveFall(unsigned fall, milliseconds window) : fall_(std::max(fall, 1u)), window_(window) {}

  /// `prefix` tells clients' prefixes apart. `greeted`: when a client last got a good greeting.
  /// True: that was enough; counting begins anew.
  bool failed(std::uint64_t prefix, Time now, Time greeted) {
    const Time since = std::max(now - window_, greeted);
    while (!failures_.empty() && failures_.front() <= since) failures_.pop_front();
    failures_.push_back(now);
    if (last_.at <= since) last_ = {prefix, now};
    if (prefix != last_.prefix) {
      other_ = last_;
      last_.prefix = prefix;
    }
    last_.at = now;
    if (failures_.size() > fall_) failures_.pop_front();
    if (failures_.size() < fall_ || other_.at <= since) return false;
    forget();
    return true;
  }

  [[nodiscard]] unsigned count() const { return static_cast<unsigned>(failures_.size()); }

  void forget() {
    failures_.clear();
    last_ = other_ = {};
  }

 private:
  struct Seen {
    std::uint64_t prefix = 0;
    Time at = Time::min();
  };

  unsigned fall_;
  milliseconds window_;
  std::deque<Time> failures_;  ///< at most fall_
  Seen last_, other_;          ///< the last failure, and the last of another prefix
};

/// How long a passive verdict holds where no probe can lift it: 10 s, doubled up to 5 min each time
/// it comes again within twice the time it last held. Pure; health thread.
class PassiveHold {
 public:
  static constexpr milliseconds kFirst{10'000}, kLongest{300'000};

  /// A verdict at `now`; returns when it ends.
  Time begin(Time now) {
    const bool again = until_ != Time::min() && now < until_ + 2 * length_;
    length_ = again ? std::min(2 * length_, kLongest) : kFirst;
    until_ = now + length_;
    return until_;
  }

 private:
  milliseconds length_ = kFirst;
  Time until_ = Time::min();
};

/// How many of `members` backends passive verdicts may keep out at once: the share `max_ejected`,
/// rounded down but at least one when the share isn't zero, and never all.
[[nodiscard]] inline unsigned ejected_max(unsigned members, double max_ejected) {
  if (members < 2 || max_ejected <= 0) return 0;
  const auto share = static_cast<unsigned>(max_ejected * members + 1e-9);
  return std::clamp(share, 1u, members - 1);
}

}  // namespace poise::health
