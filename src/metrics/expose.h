#pragma once

#include <string>

#include "metrics/facts.h"

namespace poise::metrics {

/// The text that GET /metrics answers with (Prometheus text format 0.0.4), process_* from /proc
/// included. Any thread.
std::string expose(const Facts& facts);

inline constexpr const char* kContentType = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace poise::metrics
