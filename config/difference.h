#pragma once

#include <string>
#include <vector>

#include "poise/config.h"

namespace poise::config {

/// What a reload from `before` to `after` changes, a sentence each: "pool mx: backend mx3 is added
/// (10.0.0.13:25)", "service smtp: timeouts.idle: \"12m\" -> \"15m\"". Defaults count as values.
/// Empty: nothing.
std::vector<std::string> differences(const Config& before, const Config& after);

}  // namespace poise::config
