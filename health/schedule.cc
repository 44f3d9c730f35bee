#include "health/schedule.h"

#include <algorithm>

#include "poise/check.h"

namespace poise::health {
namespace {

using Nanos = std::chrono::nanoseconds;

/// splitmix64's finalizer: every bit of the input moves every bit of the output.
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

std::uint64_t spread_seed(std::string_view node, std::string_view pool, std::string_view backend,
                          std::uint64_t tier) {
  std::uint64_t seed = mixed(tier);
  for (const std::string_view word : {node, pool, backend}) {
    for (const char c : word) seed = mixed(seed ^ static_cast<unsigned char>(c));
    seed = mixed(seed ^ 0x100);  // no two lists of words run together to the same
  }
  return seed;
}

Schedule::Schedule(Intervals intervals, std::uint64_t seed, Time now)
    : intervals_(intervals), seed_(seed), due_(now) {
  CHECK(intervals.steady.count() > 0 && intervals.in_doubt.count() > 0 &&
        intervals.down.count() > 0);
}

Time Schedule::next_moment(milliseconds interval, Time after) const {
  const std::int64_t length = Nanos(interval).count();
  const std::int64_t phase =
      static_cast<std::int64_t>(mixed(seed_) % static_cast<std::uint64_t>(length));
  const auto moment = [&](std::int64_t number) {
    const std::uint64_t hash = mixed(seed_ ^ static_cast<std::uint64_t>(number));
    const std::int64_t moved = static_cast<std::int64_t>(
        hash % static_cast<std::uint64_t>(std::max<std::int64_t>(length / 10, 1)));
    return Time{Nanos{number * length + phase + moved - length / 20}};
  };
  // At least half an interval from the last start, so that the first one after a change of pace
  // does not follow on its heels.
  const Time earliest = after + Nanos{length / 2};
  std::int64_t number = (Nanos(earliest.time_since_epoch()).count() - phase) / length - 1;
  while (moment(number) < earliest) ++number;
  return moment(number);
}

void Schedule::plan() {
  switch (pace_) {
    case Pace::steady:
      due_ = next_moment(intervals_.steady, started_);
      break;
    case Pace::in_doubt:
      due_ = started_ + intervals_.in_doubt;
      break;
    case Pace::down:
      due_ = next_moment(intervals_.down, started_);
      break;
  }
}

void Schedule::started(Time now) {
  started_ = now;
  ever_started_ = true;
  soon_.reset();
  plan();
}

void Schedule::concluded(Pace pace, Time now) {
  pace_ = pace;
  if (!ever_started_) return;
  plan();
  due_ = std::max(due_, now);
}

void Schedule::soon(Time now) {
  const Time earliest = ever_started_ ? std::max(now, started_ + intervals_.in_doubt) : now;
  if (!soon_) soon_ = earliest;
  due_ = std::min(due_, *soon_);
}

bool InFlight::begin(const std::string& host, bool down) {
  if (full() || (down && down_ >= caps_.down)) return false;
  const auto at = hosts_.find(host);
  if (at != hosts_.end() && at->second >= caps_.host) return false;
  ++hosts_[host];
  ++all_;
  if (down) ++down_;
  return true;
}

void InFlight::end(const std::string& host, bool down) {
  const auto at = hosts_.find(host);
  CHECK(at != hosts_.end() && all_ > 0 && (!down || down_ > 0));
  if (--at->second == 0) hosts_.erase(at);
  --all_;
  if (down) --down_;
}

}  // namespace poise::health
