#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "loadgen/loop/time.h"
#include "loadgen/server/faults.h"
#include "poise/result.h"

namespace poise::loadgen {

/// Something that happens to a server at a given time of a run.
struct Event {
  enum class Kind : std::uint8_t {
    stop,   ///< as if its process died: every socket closed
    start,  ///< it listens again
    heal,   ///< all faults but its capacity are gone
    fault,  ///< one more fault
  };
  Nanos at = 0;  ///< after the servers' start
  Kind kind = Kind::stop;
  std::string fault;        ///< as after --fault
  std::string server_name;  ///< empty: all
};

/// "10s:stop:mx2", "10s:start:mx2", "5s:silence:mx1", "5s:greet=421", "20s:heal". `names`: the
/// servers there are.
Result<Event> parse_event(std::string_view text, const std::vector<std::string>& names);

}  // namespace poise::loadgen
