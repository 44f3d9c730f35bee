#pragma once

#include <string_view>
#include <vector>

#include "loadgen/client/plan.h"
#include "poise/result.h"

namespace poise::loadgen {

/// "127.0.0.1:2501", "mx1.example.org:25@10": appended with its preference for `mx`; a name once
/// for each of its addresses.
Result<void> add_target(std::string_view text, std::vector<Target>& targets);

/// Keeps all addresses of a name for the ways that use them, `dns_rr` and `mx`; the first for all
/// others.
void settle_targets(RunPlan& plan);

/// "127.0.1.1", "127.0.1.1-127.0.1.20", "2001:db8::7": appended. At most 65536 in a range.
Result<void> add_sources(std::string_view text, std::vector<Address>& sources);

Result<Choice> parse_choice(std::string_view text);

/// A target's family that no source has: such a session could never connect.
Result<void> check_sources(const std::vector<Address>& sources, const std::vector<Target>& targets);

}  // namespace poise::loadgen
