#pragma once

#include <string>
#include <utility>
#include <vector>

#include "health/probe.h"

/// Which PROXY headers a server takes, found out by trying them all, and what to set on which side.
/// Pure: who runs the probes is the caller's business.
namespace poise::health {

/// One of several probes of one server, told apart by how they came.
struct Path {
  std::string name;
  ProbeRequest request;
  ProbeResult result;
};

/// `request` with every header in turn, and with none.
std::vector<Path> header_paths(const ProbeRequest& request);

/// Source and destination that a header names for a client that is nobody's neighbour (RFC 5737,
/// RFC 3849).
std::pair<Address, Address> stranger(bool v4, const Address& destination);

struct HeaderVerdict {
  bool good = false;
  std::string sentence;
};

/// Of header_paths() after their probes. Good: there is a way to use the server, with or without a
/// header.
HeaderVerdict judge_headers(const std::vector<Path>& paths);

}  // namespace poise::health
