#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "balance/pool.h"
#include "control/backend_table.h"
#include "ipvs/table.h"
#include "poise/config.h"

/// From what is configured and true to the table the kernel should have. Pure.
namespace poise::control {

/// Whose forwarding is the kernel's.
[[nodiscard]] bool in_kernel(const config::Service& service);
/// Whether a service needs sockets: it is the proxy's, or falls back to it.
[[nodiscard]] bool wants_listeners(const config::Service& service);
[[nodiscard]] bool any_in_kernel(const config::Config& config);
/// As the configuration has it: "ipvs-nat".
[[nodiscard]] std::string_view name_of(config::Forwarding forwarding);

/// The scheduler as the kernel calls it, with its flags, and what "sticky" asks for.
[[nodiscard]] ipvs::ServiceSettings settings_of(const config::Pool& pool, bool v6);

struct IpvsInput {
  const config::Config& config;  ///< with names resolved
  /// By index of config.pools: what new sessions go by, slow start's weights included.
  const std::vector<std::shared_ptr<const balance::Pool>>& pools;
  const BackendTable& backends;
  /// What the operator asked of services that are not simply enabled, by name.
  const std::map<std::string, AdminState>& service_admin;
  const ipvs::Reading& now;  ///< the kernel's table as last seen
  bool stopping = false;     ///< nobody gets new connections
};

/// The table as it should be: of the services in the kernel, and of those of `owned` that the
/// configuration no longer names while they are in use. A server that is to take no new connections
/// and has some keeps them at weight 0, and goes when the last is over.
[[nodiscard]] ipvs::Table ipvs_table(const IpvsInput& input,
                                     const std::set<ipvs::ServiceKey>& owned);

/// The longest that any of these services allows; 0: no service is in the kernel.
[[nodiscard]] ipvs::Timeouts ipvs_timeouts(const config::Config& config);

/// The address under which a backend is in the kernel's service `key`.
[[nodiscard]] Address destination_address(const ipvs::ServiceKey& key, ipvs::Method method,
                                          const Address& backend);
[[nodiscard]] ipvs::Method method_of(config::Forwarding forwarding);

}  // namespace poise::control
