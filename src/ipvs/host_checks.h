#pragma once

#include <set>
#include <string>
#include <vector>

/// What a host needs around ip_vs and people forget. Pure but for reading /proc and /sys, whose
/// root is given, so that tests lay out a host of their own.
namespace poise::ipvs {

struct Finding {
  bool error = false;  ///< sessions can't work; else they may fail under some conditions
  std::string what;    ///< "packets are not forwarded: net.ipv4.ip_forward is 0"
  std::string
      command;  ///< what sets it right: "sysctl -w net.ipv4.ip_forward=1"; empty: see `what`

  bool operator==(const Finding&) const = default;
  [[nodiscard]] std::string text() const;
};

/// What to look at.
struct HostNeeds {
  bool nat = false, tunnel = false;
  bool v4 = false, v6 = false;
  bool sticky = false;   ///< some service is persistent
  bool removes = false;  ///< servers that are down are taken out, not left at weight 0
  std::set<std::string> schedulers{};  ///< the kernel's names

  bool operator==(const HostNeeds&) const = default;
};

/// `root`: "" is this host. Empty: all is well.
[[nodiscard]] std::vector<Finding> check_host(const HostNeeds& needs, const std::string& root = "");

}  // namespace poise::ipvs
