#pragma once

#include "config/document.h"
#include "config/load.h"
#include "config/problem.h"
#include "poise/config.h"

namespace poise::config {

/// What no single key can know: names used twice, addresses that collide, settings that contradict
/// each other, and what is legal but most likely not meant. `config` may hold values that were
/// replaced because of errors; those are not complained of again.
void check(const Config& config, const Node& root, const LoadOptions& options, Problems& problems);

}  // namespace poise::config
