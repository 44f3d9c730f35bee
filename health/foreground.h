#pragma once

#include <cstddef>
#include <vector>

#include "health/probe.h"

namespace poise::health {

/// Runs probes to their ends on a loop of its own, at most `parallel` at a time, and returns the
/// results in the order of the requests. Blocks until the last connection is closed.
std::vector<ProbeResult> run_probes(const std::vector<ProbeRequest>& requests,
                                    std::size_t parallel);

}  // namespace poise::health
