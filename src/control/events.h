#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

#include "control/backend_table.h"

namespace poise::control {

/// Something that changed what is true: an operator's verb, a reload, a health change.
struct Event {
  std::uint64_t number = 0;  ///< from 1, without gaps
  WallTime time{};
  std::string kind;    ///< one word: start, reload, drain, enable, health, ...
  std::string object;  ///< mx/mx1, a service, a file; may be empty
  std::string what;    ///< a sentence
  std::string reason;  ///< the operator's words, or health's
  std::string user{};  ///< who asked; empty: nobody
};

/// The last ones, in memory. Control thread only.
class Events {
 public:
  static constexpr std::size_t kMax = 1000;

  const Event& add(Event event) {
    event.number = ++last_;
    if (event.time == WallTime{}) event.time = std::chrono::system_clock::now();
    if (all_.size() == kMax) all_.pop_front();
    return all_.emplace_back(std::move(event));
  }
  [[nodiscard]] const std::deque<Event>& all() const { return all_; }

 private:
  std::deque<Event> all_;
  std::uint64_t last_ = 0;
};

}  // namespace poise::control
