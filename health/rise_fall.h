#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "poise/health.h"

namespace poise::health {

/// What outcomes in a row add up to: `fall` bad ones turn alive into dead, `rise` good ones dead
/// into alive, and any outcome that agrees with the state starts the count anew. The first outcome
/// of all decides by itself: nothing speaks against it. Pure; one tier of one backend.
class RiseFall {
 public:
  enum class State : std::uint8_t { unknown, alive, dead };

  RiseFall(unsigned rise, unsigned fall, State state = State::unknown) : state_(state) {
    set_counts(rise, fall);
  }

  /// On reload: the state stays, what was counted against it stays.
  void set_counts(unsigned rise, unsigned fall) {
    rise_ = std::max(rise, 1u);
    fall_ = std::max(fall, 1u);
  }

  [[nodiscard]] State state() const { return state_; }

  /// Outcomes in a row that speak against the state.
  [[nodiscard]] unsigned against() const { return against_; }
  [[nodiscard]] bool in_doubt() const { return state_ == State::unknown || against_ > 0; }

  /// One outcome; true: the state has changed, and history() says why. `words`: the server's own,
  /// or what else is known.
  bool add(bool good, std::string_view words) {
    const State says = good ? State::alive : State::dead;
    if (says == state_) {
      against_ = 0;
      return false;
    }
    const unsigned needed = state_ == State::unknown ? 1 : good ? rise_ : fall_;
    if (++against_ < needed) return false;
    history_ = std::to_string(against_) + " of " + std::to_string(needed) +
               (good ? " good" : " failed") + ", last: " + std::string(words);
    state_ = says;
    against_ = 0;
    return true;
  }

  /// Something else than an outcome decided; `why` becomes the history. False: it was so already.
  bool set(State state, std::string why) {
    against_ = 0;
    if (state == state_) return false;
    state_ = state;
    history_ = std::move(why);
    return true;
  }

  /// Why the state is what it is: "3 of 3 failed, last: 421 4.3.2 service shutting down".
  [[nodiscard]] const std::string& history() const { return history_; }

 private:
  unsigned rise_ = 1, fall_ = 1;
  State state_;
  unsigned against_ = 0;
  std::string history_;
};

}  // namespace poise::health
