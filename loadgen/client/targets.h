#pragma once

#include <string_view>
#include <vector>

#include "loadgen/client/chooser.h"
#include "poise/result.h"

namespace poise::loadgen {

/// "127.0.0.1:2501", "mx1.example.org:25@10": an address as parse_address() takes it, and its
/// preference for `mx`.
Result<Target> parse_target(std::string_view text);

/// "127.0.1.1", "127.0.1.1-127.0.1.20", "2001:db8::7": appended. At most 65536 in a range.
Result<void> add_sources(std::string_view text, std::vector<Address>& sources);

Result<Choice> parse_choice(std::string_view text);

/// A target's family that no source has: such a session could never connect.
Result<void> check_sources(const std::vector<Address>& sources, const std::vector<Target>& targets);

}  // namespace poise::loadgen
