#include "control/machine.h"

#include <fmt/format.h>

#include "net/socket.h"
#include "net/transparent.h"

namespace poise::control {

Result<void> check_machine(const config::Config& config) {
  for (const config::Service& service : config.services)
    if (auto known = net::check_congestion(service.congestion); !known)
      return Error{"service " + service.name, known.error().text()};
  for (const config::Pool& pool : config.pools) {
    if (auto known = net::check_congestion(pool.congestion); !known)
      return Error{"pool " + pool.name, known.error().text()};
    if (!pool.source_address.client) continue;
    if (auto allowed = net::check_transparent(); !allowed)
      return Error{"pool " + pool.name, allowed.error().text()};
  }
  return {};
}

std::vector<std::string> missing_routes(const config::Config& config) {
  std::vector<std::string> missing;
  for (const config::Pool& pool : config.pools) {
    if (!pool.source_address.client) continue;
    for (const config::Backend& backend : pool.backends) {
      if (!backend.literal) continue;
      if (auto routed = net::check_return_route(*backend.literal); !routed)
        missing.push_back(
            fmt::format("backend {}/{}: {}", pool.name, backend.name, routed.error().text()));
    }
  }
  return missing;
}

}  // namespace poise::control
