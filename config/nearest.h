#pragma once

#include <span>
#include <string>
#include <string_view>

/// "Did you mean": typing errors answered with what was probably meant. Pure.
namespace poise::config {

/// The candidate with the fewest typing errors (a letter too many, too few, wrong, two swapped;
/// case is free), or empty when none is near enough to be a likely meaning.
std::string_view nearest(std::string_view word, std::span<const std::string> candidates);

/// `; did you mean "protocol"?`, or nothing.
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

/// "a, b, c"; long lists end in "...".
std::string enumerate(std::span<const std::string> words);

}  // namespace poise::config
