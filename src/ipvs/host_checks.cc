#include "ipvs/host_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

namespace poise::ipvs {
namespace {

namespace fs = std::filesystem;

/// Looks at sysctls below a root.
class Host {
 public:
  explicit Host(const std::string& root) : root_(root) {}

  /// Nothing when there is no such sysctl; `name` with slashes: "net/ipv4/ip_forward".
  [[nodiscard]] std::optional<long> sysctl(const std::string& name) const {
    std::ifstream file(root_ + "/proc/sys/" + name);
    long value = 0;
    return file >> value ? std::optional(value) : std::nullopt;
  }

  [[nodiscard]] bool has(const std::string& path) const {
    std::error_code ignored;
    return fs::exists(root_ + path, ignored);
  }

  /// Those that packets are routed over.
  [[nodiscard]] std::vector<std::string> interfaces(const std::string& below) const {
    std::vector<std::string> names;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(root_ + below, ignored)) {
      const std::string name = entry.path().filename();
      const bool tunnel = name.starts_with("tunl") || name.starts_with("ip6tnl");
      const bool bridged = has("/sys/class/net/" + name + "/brport");
      if (name != "all" && name != "default" && name != "lo" && !tunnel && !bridged)
        names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  [[nodiscard]] std::optional<long> mtu(const std::string& interface) const {
    std::ifstream file(root_ + "/sys/class/net/" + interface + "/mtu");
    long value = 0;
    return file >> value ? std::optional(value) : std::nullopt;
  }

 private:
  std::string root_;
};

/// "sysctl -w net.ipv4.ip_forward=1"; an interface's dots are written as slashes, as sysctl wants.
std::string set_command(std::string name, long value) {
  for (char& each : name) {
    if (each == '/')
      each = '.';
    else if (each == '.')
      each = '/';
  }
  return fmt::format("sysctl -w {}={}", name, value);
}

void check_forwarding(const HostNeeds& needs, const Host& host, std::vector<Finding>& found) {
  const auto want = [&](const std::string& name, const char* what) {
    if (host.sysctl(name).value_or(1) == 0)
      found.push_back({true, fmt::format("{}: {} is 0", what, name), set_command(name, 1)});
  };
  // Direct and tunnel hand packets to the servers by themselves; answers of NAT are forwarded.
  if (needs.nat && needs.v4) want("net/ipv4/ip_forward", "the servers' answers are not forwarded");
  if (needs.nat && needs.v6)
    want("net/ipv6/conf/all/forwarding", "the servers' answers are not forwarded");
}

void check_redirects(const HostNeeds& needs, const Host& host, std::vector<Finding>& found) {
  if (!needs.nat || !needs.v4) return;
  // The kernel sends redirects when "all" or the interface says so.
  const bool all = host.sysctl("net/ipv4/conf/all/send_redirects").value_or(0) != 0;
  for (const std::string& interface : host.interfaces("/proc/sys/net/ipv4/conf")) {
    const std::string name = "net/ipv4/conf/" + interface + "/send_redirects";
    const bool own = host.sysctl(name).value_or(0) != 0;
    if (!all && !own) continue;
    found.push_back(
        {false,
         fmt::format("redirects are sent on {}: where clients and servers share a segment, the "
                     "servers' answers then bypass this host and NAT fails",
                     interface),
         all ? set_command("net/ipv4/conf/all/send_redirects", 0) +
                   (own ? "; " + set_command(name, 0) : "")
             : set_command(name, 0)});
  }
}

void check_conntrack(const HostNeeds& needs, const Host& host, std::vector<Finding>& found) {
  if (!needs.nat) return;
  const bool tracked = host.has("/proc/sys/net/netfilter/nf_conntrack_max");
  if (tracked && host.sysctl("net/ipv4/vs/conntrack").value_or(1) == 0)
    found.push_back(
        {false,
         "netfilter tracks connections, but not those of ip_vs: rules that look at a "
         "connection's state, or translate its source, don't see them (net/ipv4/vs/conntrack is 0)",
         set_command("net/ipv4/vs/conntrack", 1)});
  if (const auto max = host.sysctl("net/netfilter/nf_conntrack_max");
      max && host.sysctl("net/ipv4/vs/conntrack").value_or(0) != 0 && *max < 65536)
    found.push_back({false,
                     fmt::format("netfilter tracks {} connections at most; new ones are dropped "
                                 "beyond that",
                                 *max),
                     set_command("net/netfilter/nf_conntrack_max", 262144)});
}

void check_tunnel(const HostNeeds& needs, const Host& host, std::vector<Finding>& found) {
  if (!needs.tunnel) return;
  if (host.sysctl("net/ipv4/vs/pmtu_disc").value_or(1) == 0)
    found.push_back({false,
                     "clients are not told that the tunnel's packets must be 20 bytes shorter "
                     "(net/ipv4/vs/pmtu_disc is 0): long messages may hang",
                     set_command("net/ipv4/vs/pmtu_disc", 1)});
  constexpr long kEthernet = 1500, kHeader = 20;
  for (const std::string& interface : host.interfaces("/sys/class/net")) {
    const auto mtu = host.mtu(interface);
    if (mtu && *mtu >= kEthernet && *mtu < kEthernet + kHeader)
      found.push_back(
          {false,
           fmt::format("{} carries {} bytes, and a tunnel adds {}: full segments of clients need a "
                       "round trip to learn that, and hang where ICMP is filtered; raise the MTU "
                       "towards the servers, or let them announce a smaller segment",
                       interface, *mtu, kHeader),
           fmt::format("ip link set {} mtu {}", interface, kEthernet + kHeader)});
  }
}

/// Loose filtering (2) is what asymmetric ways need: with direct and tunnel a server's answer never
/// comes back here, but strict filtering on this host may drop what clients send.
void check_reverse_path(const HostNeeds& needs, const Host& host, std::vector<Finding>& found) {
  if (!needs.v4) return;
  const long all = host.sysctl("net/ipv4/conf/all/rp_filter").value_or(0);
  for (const std::string& interface : host.interfaces("/proc/sys/net/ipv4/conf")) {
    const std::string name = "net/ipv4/conf/" + interface + "/rp_filter";
    if (std::max(all, host.sysctl(name).value_or(0)) != 1) continue;
    found.push_back({false,
                     fmt::format("{} drops packets that come another way than answers would go "
                                 "(rp_filter is 1): clients that are routed asymmetrically can't "
                                 "connect",
                                 interface),
                     set_command(name, 2)});
  }
}

void check_sysctls_of_ip_vs(const HostNeeds& needs, const Host& host, std::vector<Finding>& found) {
  if (needs.sticky && host.sysctl("net/ipv4/vs/expire_quiescent_template").value_or(1) == 0)
    found.push_back({false,
                     "sticky clients are still sent to servers that are down or draining "
                     "(net/ipv4/vs/expire_quiescent_template is 0)",
                     set_command("net/ipv4/vs/expire_quiescent_template", 1)});
  // With 1 a connection ends when its server is taken out; with 0 it goes on when the server comes
  // back, which is what saves sessions when somebody else clears the table.
  if (needs.removes && host.sysctl("net/ipv4/vs/expire_nodest_conn").value_or(1) == 0)
    found.push_back({false,
                     "clients of a server that was removed hang until they time out, instead of "
                     "being told (net/ipv4/vs/expire_nodest_conn is 0)",
                     set_command("net/ipv4/vs/expire_nodest_conn", 1)});
}

}  // namespace

std::string Finding::text() const {
  return command.empty() ? what : fmt::format("{}; run: {}", what, command);
}

std::vector<Finding> check_host(const HostNeeds& needs, const std::string& root) {
  const Host host(root);
  std::vector<Finding> found;
  if (!host.has("/proc/net/ip_vs")) {
    found.push_back({true, "the kernel has no ip_vs", "modprobe ip_vs"});
    return found;
  }
  for (const std::string& scheduler : needs.schedulers)
    if (!host.has("/sys/module/ip_vs_" + scheduler))
      found.push_back({false,
                       fmt::format("scheduler {} is not loaded; the kernel loads it when a service "
                                   "is made, if it may",
                                   scheduler),
                       "modprobe ip_vs_" + scheduler});
  check_forwarding(needs, host, found);
  check_redirects(needs, host, found);
  check_conntrack(needs, host, found);
  check_tunnel(needs, host, found);
  check_reverse_path(needs, host, found);
  check_sysctls_of_ip_vs(needs, host, found);
  return found;
}

}  // namespace poise::ipvs
