#include "config/keepalived.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <vector>

namespace poise::config {
namespace {

/// What one VRRP packet may name; the others move along unnamed.
constexpr std::size_t kNamedMax = 20;

std::string instance(const Pair& pair, const Vrrp& vrrp) {
  // VRRP is spoken in the family of the first of the box's addresses of which it has something to
  // say.
  const auto speaks = [&vrrp](const Address& own) {
    return std::any_of(
        vrrp.virtual_addresses.begin(), vrrp.virtual_addresses.end(),
        [&own](const VirtualAddress& each) { return each.address.family == own.family; });
  };
  const std::vector<Address>& candidates = pair.self().vrrp_addresses;
  const auto found = std::find_if(candidates.begin(), candidates.end(), speaks);
  const Address& own = found != candidates.end() ? *found : candidates.front();
  const Address& peer = *pair.peer().vrrp_address(own.family);
  std::string named, along;
  std::size_t count = 0;
  for (const VirtualAddress& each : vrrp.virtual_addresses) {
    (each.address.family == own.family && count++ < kNamedMax ? named : along) +=
        fmt::format("    {}\n", each.text());
  }
  std::string text = fmt::format(
      "\nvrrp_instance {} {{\n"
      "  state BACKUP\n"
      "{}"
      "  interface {}\n"
      "  virtual_router_id {}\n"
      "  priority {}\n"
      "  advert_int {:g}\n"
      "  unicast_src_ip {}\n"
      "  unicast_peer {{\n    {}\n  }}\n"
      "  virtual_ipaddress {{\n{}  }}\n",
      vrrp.name, vrrp.preempt ? "" : "  nopreempt\n", vrrp.interface, vrrp.router_id,
      pair.self().priority, static_cast<double>(vrrp.advert_interval.count()) / 1000, own.ip_text(),
      peer.ip_text(), named);
  if (!along.empty()) text += fmt::format("  virtual_ipaddress_excluded {{\n{}  }}\n", along);
  return text + "  track_file {\n    poise\n  }\n  track_script {\n    poised\n  }\n}\n";
}

}  // namespace

VrrpFiles VrrpFiles::of(const Config& config) {
  const std::string folder =
      config.admin.socket.empty()
          ? "/run/poise"
          : std::filesystem::path(config.admin.socket).parent_path().string();
  return {.folder = folder, .track = folder + "/vrrp-track", .fifo = folder + "/vrrp-fifo"};
}

std::string keepalived_config(const Config& config, const std::string& user,
                              const std::string& poisectl) {
  const Pair& pair = *config.pair;
  const VrrpFiles files = VrrpFiles::of(config);
  std::string text = fmt::format(
      "# keepalived on {0}, made by `poisectl vrrp-config` out of poise.json.\n"
      "# Change that file and make this one anew; then `systemctl reload keepalived`.\n"
      "global_defs {{\n"
      "  router_id {0}\n"
      "  enable_script_security\n"
      "  script_user {1}\n"
      "  vrrp_version 3\n"
      "  vrrp_garp_master_refresh 60\n"
      "  fifo_write_vrrp_states_on_reload\n"
      "  vrrp_notify_fifo {2} {1}\n"
      "}}\n\n"
      "# poised writes 0 while it serves. When it dies, hangs or stops, its guard writes 1 at "
      "once.\n"
      "track_file poise {{\n"
      "  file \"{3}\"\n"
      "  weight 0\n"
      "  init_file 1\n"
      "}}\n\n"
      "# For the case that the guard is gone too.\n"
      "vrrp_script poised {{\n"
      "  script \"{4} -s {5} alive\"\n"
      "  interval 1\n"
      "  timeout 2\n"
      "  fall 3\n"
      "  rise 1\n"
      "}}\n",
      pair.self().name, user, files.fifo, files.track, poisectl,
      config.admin.socket.empty() ? "/run/poise/poised.sock" : config.admin.socket);
  if (pair.vrrp.size() > 1) {
    text += "\n# All addresses are on one box.\nvrrp_sync_group pair {\n  group {\n";
    for (const Vrrp& each : pair.vrrp) text += fmt::format("    {}\n", each.name);
    text += "  }\n}\n";
  }
  for (const Vrrp& each : pair.vrrp) text += instance(pair, each);
  return text;
}

}  // namespace poise::config
