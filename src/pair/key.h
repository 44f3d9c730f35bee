#pragma once

#include <string>

#include "poise/result.h"

namespace poise::pair {

/// The secret that both boxes share: the first line of `path`, 32 to 1024 characters. Refused when
/// anybody but the owner and its group can read the file.
Result<std::string> read_key(const std::string& path);

}  // namespace poise::pair
