#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "loadgen/client/plan.h"

namespace poise::loadgen {

/// Reads a workload file into `plan`, over what is there. JSON with // comments:
///
///   {
///     "targets": ["127.0.0.1:25"],             // whom; a block may have its own
///     "choose": "mx",                          // turns, single, dns-rr, mx, balancer
///     "pace": {"clients": 50, "duration": "60s"},
///     "retry": {"times": 3, "after": "5s"},
///     "sequences": {"read": ["fetch*3", "wait=2s"]},
///     "blocks": {                              // what sessions do, each by its name
///       "sender": {"protocol": "smtp", "size": "lognormal:8KiB:1.2", "commands": ["message*2"]},
///       "poller": {"protocol": "pop3", "think": "30s", "targets": ["127.0.0.1:110"]}
///     },
///     "mix": {"sender": 3, "poller": 1}        // of four sessions one polls
///   }
///
/// Returns everything wrong with it in poised's own form, `FILE:LINE:COLUMN: /blocks/a/size: ...`:
/// what was expected, and for an unknown key the nearest one. Empty: `plan` is whole, but for
/// targets, times and TLS contexts that the command line may add.
std::vector<std::string> read_workload(std::string_view text, const std::string& file,
                                       RunPlan& plan);

/// What a run needs at the end, from file or command line. The first fault, in words.
Result<void> check_plan(const RunPlan& plan);

}  // namespace poise::loadgen
