#pragma once

#include <string>
#include <string_view>

namespace poise::config {

/// A JSON string with its quotes. What is not UTF-8 is replaced by U+FFFD.
std::string json_text(std::string_view text);

}  // namespace poise::config
