#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace poise::loadgen {

/// `; did you mean "protocol"?` when a candidate is two typing errors away or less, else `; there
/// are a, b, c`.
std::string suggest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace poise::loadgen
