#pragma once

#include <string_view>

#include "loadgen/loop/time.h"
#include "poise/result.h"

namespace poise::loadgen {

/// "250ms" "15s" "5m" "1h"; a bare number is seconds.
Result<Nanos> parse_time(std::string_view text);

}  // namespace poise::loadgen
