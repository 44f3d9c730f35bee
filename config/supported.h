#pragma once

#include <bitset>
#include <cstdint>

/// Which parts of the file format this build can do. A key that belongs to a feature which isn't
/// here yet has the value "off" of its key table; asking for anything else is the error "not
/// supported yet: KEY".
namespace poise::config {

enum class Feature : std::uint8_t {
  none,  ///< always there
  admin_socket,
  admin_http,
  log_journal,
  log_syslog,
  log_json,
  ipvs,
  accept_proxy,
  greeting,    ///< the greeting gate
  early_talk,  ///< holding or refusing clients that speak first; needs the gate
  refusal,     ///< texts and delays of our own replies
  access_lists,
  limits,  ///< all of "limits" but "sessions"
  sticky,
  queue,
  when_all_down,
  on_down,
  send_proxy,
  source_address,
  transparent,  ///< "source_address": "client"
  slow_start,
  connect_rate,
  passive,
  probe,
  probe_deep,
  backend_names,  ///< a backend's address may be a DNS name
  count,
};

class Features {
 public:
  [[nodiscard]] bool has(Feature feature) const {
    return feature == Feature::none || on_.test(static_cast<std::size_t>(feature));
  }

  Features& set(Feature feature, bool on = true) {
    on_.set(static_cast<std::size_t>(feature), on);
    return *this;
  }

  /// The whole contract; what tests of the final defaults use.
  static Features all() {
    Features features;
    features.on_.set();
    return features;
  }

 private:
  std::bitset<static_cast<std::size_t>(Feature::count)> on_;
};

/// What this build does. The change that makes a feature work flips its line in supported.cc; the
/// default follows.
const Features& supported();

}  // namespace poise::config
