#include "health/header_paths.h"

#include <algorithm>
#include <string_view>

namespace poise::health {
namespace {

const Path* find(const std::vector<Path>& paths, std::string_view name) {
  const auto found =
      std::find_if(paths.begin(), paths.end(), [&](const Path& path) { return path.name == name; });
  return found == paths.end() ? nullptr : &*found;
}

}  // namespace

std::pair<Address, Address> stranger(bool v4, const Address& destination) {
  const Address source = *Address::from_ip(v4 ? "192.0.2.1" : "2001:db8::1", 40000);
  if (source.family == destination.family) return {source, destination};
  return {source, *Address::from_ip(v4 ? "192.0.2.25" : "2001:db8::25", destination.port)};
}

std::vector<Path> header_paths(const ProbeRequest& request) {
  std::vector<Path> paths;
  const auto add = [&](const char* name, config::SendProxy version) -> ProbeRequest& {
    Path& path = paths.emplace_back(Path{name, request, {}});
    path.request.send_proxy = version;
    path.request.proxy_claim.reset();
    return path.request;
  };
  const auto add_stranger = [&](const char* name, config::SendProxy version, bool v4) {
    add(name, version).proxy_claim = stranger(v4, request.address);
  };
  add("none", config::SendProxy::off);
  add_stranger("v1 TCP4", config::SendProxy::v1, true);
  add_stranger("v1 TCP6", config::SendProxy::v1, false);
  add_stranger("v2 INET", config::SendProxy::v2, true);
  add_stranger("v2 INET6", config::SendProxy::v2, false);
  add("v2 LOCAL", config::SendProxy::v2);
  return paths;
}

HeaderVerdict judge_headers(const std::vector<Path>& paths) {
  const auto takes = [&](std::string_view name) {
    const Path* const path = find(paths, name);
    return path != nullptr && path->result.good();
  };
  const bool none = takes("none");
  const bool v1_4 = takes("v1 TCP4"), v1_6 = takes("v1 TCP6");
  const bool v2_4 = takes("v2 INET"), v2_6 = takes("v2 INET6"), local = takes("v2 LOCAL");
  const bool v1 = v1_4 || v1_6, v2 = v2_4 || v2_6;
  const auto all = [&](ProbeOutcome outcome) {
    return std::all_of(paths.begin(), paths.end(),
                       [&](const Path& path) { return path.result.outcome == outcome; });
  };
  if (!v1 && !v2 && !local) {
    if (none)
      return {
          true,
          "The server takes connections without a PROXY header and no other: leave \"send_proxy\" "
          "\"off\". To show it the clients' addresses switch the header on there first (Postfix: "
          "smtpd_upstream_proxy_protocol = haproxy, with postscreen "
          "postscreen_upstream_proxy_protocol = haproxy; Dovecot: haproxy = yes in the "
          "inet_listener and this machine in haproxy_trusted_networks; Exim: this machine in "
          "hosts_proxy), on a port of its own, then set \"send_proxy\": \"v2\" in the pool."};
    if (all(ProbeOutcome::refused) || all(ProbeOutcome::unreachable) || all(ProbeOutcome::timeout))
      return {false, "The server cannot be connected: nothing to be learnt about headers."};
    return {
        false,
        "The server greets neither with a header nor without. If it wants one, it does not want it "
        "from this address: see haproxy_trusted_networks (Dovecot) or hosts_proxy (Exim) there. "
        "If it wants none, something else is wrong with it."};
  }
  std::string sentence;
  if (none && (v1 || v2))
    sentence = "The server takes connections with a PROXY header and without: ";
  else
    sentence = "The server takes connections with a PROXY header only: ";
  if (v2 || local)
    sentence += v1 ? "set \"send_proxy\": \"v2\" in the pool (\"v1\" works too)."
                   : "set \"send_proxy\": \"v2\" in the pool (\"v1\" is not taken).";
  else
    sentence +=
        "set \"send_proxy\": \"v1\" in the pool; version 2 is not taken (Postfix has it from "
        "3.5 on).";
  if ((v1_4 || v2_4) && !v1_6 && !v2_6)
    sentence +=
        " Headers for IPv6 clients are not taken: the server has IPv6 switched off (Postfix: "
        "inet_protocols = all), or keep IPv6 clients away from it.";
  if (v2 && !local)
    sentence +=
        " LOCAL is not taken: probes cannot use v2 there, set \"probe\": {\"send_proxy\": "
        "\"v1\"}.";
  return {true, sentence};
}

}  // namespace poise::health
