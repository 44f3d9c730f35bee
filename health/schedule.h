#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

/// When probes are due. Pure: time is a value, nothing waits. Health thread only.
namespace poise::health {

using Time = std::chrono::steady_clock::time_point;
using std::chrono::milliseconds;

/// What decides the pace: what the last outcomes made of the backend.
enum class Pace : std::uint8_t {
  steady,    ///< up, and the last outcome was good
  in_doubt,  ///< the last outcome speaks against the health: on its way down, or up
  down,      ///< down, and the last outcome agrees
};

/// When the next probe of one tier of one backend is due.
///
/// A steady (or down) backend is probed at fixed moments, a whole number of intervals after a phase
/// that a hash of the backend and of this machine decides, each moved by up to a twentieth of
/// the interval by a hash of its number. So N backends are spread over the interval, two machines
/// with the same configuration never fall into step, and a probe that starts late does not move the
/// ones after it. In doubt the next one is due fast_interval after the last one's start.
class Schedule {
 public:
  struct Intervals {
    milliseconds steady{};    ///< > 0
    milliseconds in_doubt{};  ///< > 0
    milliseconds down{};      ///< > 0

    bool operator==(const Intervals&) const = default;
  };

  /// The first probe is due at once: there is no verdict yet. `seed` is spread_seed().
  Schedule(Intervals intervals, std::uint64_t seed, Time now);

  [[nodiscard]] Time due() const { return due_; }

  /// A probe starts, or something stands in for it; decides when the next one is due. With nothing
  /// new known about the backend.
  void started(Time now);

  /// What the probe said: may move the next one. The outcome of a probe that took longer than its
  /// interval makes the next one due at once.
  void concluded(Pace pace, Time now);

  /// There is a reason to look now. Two probes never start closer together than in_doubt.
  void soon(Time now);

 private:
  [[nodiscard]] Time next_moment(milliseconds interval, Time after) const;
  void plan();

  Intervals intervals_;
  std::uint64_t seed_;
  Pace pace_ = Pace::in_doubt;
  Time started_{};
  bool ever_started_ = false;
  std::optional<Time> soon_;  ///< asked for since the last start
  Time due_;
};

/// Tells one backend from another and one machine from another.
[[nodiscard]] std::uint64_t spread_seed(std::string_view node, std::string_view pool,
                                        std::string_view backend, std::uint64_t tier);

/// How many probes may be under way: in all, to one host, and to backends that are down, so that
/// many dead ones, each of which holds its place for a whole timeout, cannot keep the living from
/// being probed.
class InFlight {
 public:
  struct Caps {
    unsigned all = 256;
    unsigned down = 128;
    unsigned host = 16;
  };

  InFlight() : InFlight(Caps{}) {}
  explicit InFlight(Caps caps) : caps_(caps) {}

  /// Takes a place; false: none is free. `down` as it is now, and the same again in end().
  [[nodiscard]] bool begin(const std::string& host, bool down);
  void end(const std::string& host, bool down);

  [[nodiscard]] unsigned all() const { return all_; }
  [[nodiscard]] bool full() const { return all_ >= caps_.all; }

 private:
  Caps caps_;
  unsigned all_ = 0, down_ = 0;
  std::map<std::string, unsigned> hosts_;
};

}  // namespace poise::health
