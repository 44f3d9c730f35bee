#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "health/header_paths.h"
#include "health/probe.h"

/// What `poised --probe` prints, as text for people and as JSON for programs. Pure but for run().
namespace poise {

/// Does it relay for strangers?
struct RelayVerdict {
  bool good = false;
  std::string sentence;
};

/// Runs all paths at once.
void run(std::vector<health::Path>& paths);

/// A 2yz to an RCPT elsewhere is an open relay; no answer to RCPT on any path teaches nothing, and
/// is not good either.
RelayVerdict judge_relay(const std::vector<health::Path>& paths);

std::string text_of(std::string_view address, const health::ProbeRequest& request,
                    const health::ProbeResult& result);
std::string json_of(std::string_view address, const health::ProbeRequest& request,
                    const health::ProbeResult& result);

std::string text_of(std::string_view address, const std::vector<health::Path>& paths,
                    std::string_view sentence);
std::string json_of(std::string_view address, const std::vector<health::Path>& paths, bool good,
                    std::string_view sentence);

std::string text_of_many(std::string_view address, const std::vector<health::ProbeResult>& results);
std::string json_of_many(std::string_view address, const std::vector<health::ProbeResult>& results);

}  // namespace poise
