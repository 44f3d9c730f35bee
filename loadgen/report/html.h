#pragma once

#include <string>

#include "loadgen/report/report.h"

namespace poise::loadgen {

/// The report as one page that needs nothing else: the study's two columns, plots of rate, errors
/// and latency over time, percentiles by command, and the whole text report. Names that servers
/// chose are escaped.
std::string report_html(const RunResult& result);

}  // namespace poise::loadgen
