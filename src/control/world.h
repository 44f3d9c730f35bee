#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "control/backend_table.h"
#include "log/names.h"
#include "poise/config.h"
#include "proxy/snapshot.h"

namespace poise::control {

/// Turns configurations into snapshots, and remembers which name has which id: a backend that two
/// configurations both name keeps its id, and with it its counts, cursors and history. Control
/// thread only.
class World {
 public:
  World(proxy::Registries& registries, log::NameTable& names);

  /// The next snapshot, of `config` and of what backends() says of each backend. Grows the
  /// registries, names the new ids and enters them into backends(), so do this before any worker
  /// sees it. A pool that has not changed is the same object as before.
  [[nodiscard]] std::unique_ptr<const proxy::Snapshot> next(const config::Config& config);

  /// Forgets what has outlived its time; some times a minute.
  void expire_sticky(std::chrono::nanoseconds now);
  /// Null when the pool isn't sticky.
  [[nodiscard]] balance::StickyTable* sticky(const std::string& pool) const {
    const auto at = sticky_.find(pool);
    return at == sticky_.end() ? nullptr : at->second.get();
  }

  [[nodiscard]] BackendTable& backends() { return backend_table_; }
  [[nodiscard]] const BackendTable& backends() const { return backend_table_; }

  [[nodiscard]] ServiceId service(const std::string& name) const { return services_.at(name); }
  /// Every service there ever was, by name.
  [[nodiscard]] const std::map<std::string, ServiceId>& service_ids() const { return services_; }

  /// What the operator asked of a service that is not simply enabled. It gets no backend then, so
  /// that its clients are refused in their own protocol.
  [[nodiscard]] std::map<std::string, AdminState>& service_admin() { return service_admin_; }
  [[nodiscard]] const std::map<std::string, AdminState>& service_admin() const {
    return service_admin_;
  }

  /// Called for a backend when it is entered into backends(), before it is used.
  std::function<void(BackendStatus&)> on_new_backend;

  /// As the last snapshot has it; null when there is no such pool.
  [[nodiscard]] const balance::PoolSpec* pool_spec(const std::string& name) const;

  /// What a per-worker PairCounters is for.
  struct Pair {
    ServiceId service;
    BackendId backend;  ///< none: sessions that got no backend
  };
  [[nodiscard]] const std::vector<Pair>& pairs() const { return pairs_; }
  [[nodiscard]] std::uint32_t backends_known() const {
    return static_cast<std::uint32_t>(backends_.size());
  }
  [[nodiscard]] std::uint32_t services() const {
    return static_cast<std::uint32_t>(services_.size());
  }
  /// Every pool there ever was, by name.
  [[nodiscard]] const std::map<std::string, PoolId>& pool_ids() const { return pools_; }

  /// Whom no service serves, from the next snapshot on; null: nobody is banned.
  void set_bans(std::shared_ptr<const balance::NetworkSet> bans) { bans_ = std::move(bans); }

 private:
  struct BackendKey {
    std::string pool, name;
    Address address;
    auto operator<=>(const BackendKey&) const = default;
  };

  std::uint32_t pair(ServiceId service, BackendId backend);
  void add_access(proxy::Service& service, const config::Service& from);
  void add_pool(proxy::Service& service, const config::Pool& from);
  balance::NetworkSet set_of(const std::vector<Network>& list);
  balance::PoolSpec spec_of(const config::Pool& pool);
  BackendStatus& enter(PoolId pool_id, const config::Pool& pool, const config::Backend& backend);

  proxy::Registries& registries_;
  log::NameTable& names_;
  std::map<std::string, ServiceId> services_;
  std::map<std::string, PoolId> pools_;
  std::map<BackendKey, BackendId> backends_;
  BackendTable backend_table_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> pair_ids_;
  std::vector<Pair> pairs_;
  struct BuiltPool {
    balance::PoolSpec spec;
    std::shared_ptr<const balance::Pool> pool;
  };
  std::map<std::string, BuiltPool> last_pools_;
  /// Of the snapshot in the making, and of the one before: a list that is the same is not built
  /// again.
  std::map<std::vector<Network>, balance::NetworkSet> sets_, last_sets_;
  std::map<std::string, AdminState> service_admin_;
  balance::PoolState nobody_state_;
  std::shared_ptr<const balance::Pool> nobody_;  // the pool of services that are not enabled
  std::map<std::string, std::unique_ptr<balance::StickyTable>>
      sticky_;  // kept for the process's life
  const std::uint64_t hash_key_;
  std::vector<proxy::Service> last_services_;  // by id: a removed service keeps its settings
  std::shared_ptr<const balance::NetworkSet> bans_;
  std::uint64_t version_ = 0;
};

}  // namespace poise::control
