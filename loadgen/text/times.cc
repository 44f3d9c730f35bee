#include "loadgen/text/times.h"

#include <cmath>
#include <cstdlib>
#include <string>

namespace poise::loadgen {

Result<Nanos> parse_time(std::string_view text) {
  const std::string copy(text);
  char* end = nullptr;
  const double value = std::strtod(copy.c_str(), &end);
  const std::string_view unit = end;
  const double scale = unit == "ms"                  ? 1e-3
                       : unit.empty() || unit == "s" ? 1
                       : unit == "m"                 ? 60
                       : unit == "h"                 ? 3600
                                                     : 0;
  const bool digit = !copy.empty() && copy[0] >= '0' && copy[0] <= '9';
  if (!digit || scale == 0 || !std::isfinite(value) || value * scale > 1e7)
    return Error{copy, "is no time; write 250ms, 15s, 5m or 1h"};
  return nanos(value * scale);
}

}  // namespace poise::loadgen
