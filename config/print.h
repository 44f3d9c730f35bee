#pragma once

#include <string>

#include "poise/config.h"

namespace poise::config {

/// The effective configuration as JSON, every key with its value. It loads again to an equal
/// Config. Holds no secrets: passwords are only ever named by their file.
std::string print_config(const Config& config);

}  // namespace poise::config
