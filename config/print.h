#pragma once

#include <string>

#include "config/supported.h"
#include "poise/config.h"

namespace poise::config {

/// The effective configuration as JSON, every key with its value. It loads again (with the same
/// features) to an equal Config. Holds no secrets: passwords are only ever named by their file.
std::string print_config(const Config& config, const Features& features = supported());

}  // namespace poise::config
