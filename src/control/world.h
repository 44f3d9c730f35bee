#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "log/names.h"
#include "poise/config.h"
#include "proxy/snapshot.h"

namespace poise::control {

/// Turns configurations into snapshots, and remembers which name has which id: a backend that two
/// configurations both name keeps its id, and with it its counts, cursors and history. Control
/// thread only.
class World {
 public:
  World(proxy::Registries& registries, log::NameTable& names)
      : registries_(registries), names_(names) {}

  /// The next snapshot. Grows the registries and names the new ids, so do this before any worker
  /// sees it.
  [[nodiscard]] std::unique_ptr<const proxy::Snapshot> next(const config::Config& config);

  [[nodiscard]] ServiceId service(const std::string& name) const { return services_.at(name); }

  /// What a per-worker PairCounters is for.
  struct Pair {
    ServiceId service;
    BackendId backend;  ///< none: sessions that got no backend
  };
  [[nodiscard]] const std::vector<Pair>& pairs() const { return pairs_; }
  [[nodiscard]] std::uint32_t services() const {
    return static_cast<std::uint32_t>(services_.size());
  }

 private:
  struct BackendKey {
    std::string pool, name;
    Address address;
    auto operator<=>(const BackendKey&) const = default;
  };

  std::uint32_t pair(ServiceId service, BackendId backend);

  proxy::Registries& registries_;
  log::NameTable& names_;
  std::map<std::string, ServiceId> services_;
  std::map<std::string, PoolId> pools_;
  std::map<BackendKey, BackendId> backends_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> pair_ids_;
  std::vector<Pair> pairs_;
  std::vector<proxy::Service> last_services_;  // by id: a removed service keeps its settings
  std::uint64_t version_ = 0;
};

}  // namespace poise::control
