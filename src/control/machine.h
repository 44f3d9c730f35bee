#pragma once

#include <string>
#include <vector>

#include "poise/config.h"
#include "poise/result.h"

/// What a configuration asks of this machine and no check of the file alone can know. At a start,
/// before a reload, and for the doctor; main thread.
namespace poise::control {

/// What the kernel must have and we be allowed: congestion controls, addresses that are not ours.
Result<void> check_machine(const config::Config& config);

/// Backends of transparent pools whose answers would not come back to us, a sentence each. No
/// error: routes may be set later. Host names are not looked up.
std::vector<std::string> missing_routes(const config::Config& config);

}  // namespace poise::control
