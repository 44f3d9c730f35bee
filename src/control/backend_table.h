#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "poise/address.h"
#include "poise/health.h"
#include "poise/ids.h"

namespace poise::control {

using WallTime = std::chrono::system_clock::time_point;

/// What the operator asked of a backend. Kept apart from its health, and shown as what it is: a
/// decision with a reason, a time and a name.
enum class Admin : std::uint8_t {
  enabled,
  draining,  ///< no new sessions; those there are finish or are let go at a pace
  disabled,  ///< no sessions
};

inline constexpr std::array<std::string_view, 3> kAdminNames{"enabled", "draining", "disabled"};

constexpr std::string_view name_of(Admin admin) {
  return kAdminNames[static_cast<std::size_t>(admin)];
}

struct AdminState {
  Admin admin = Admin::enabled;
  std::string reason;
  std::string user;
  WallTime since{};
};

/// What is true of one backend.
struct BackendStatus {
  BackendId id;
  PoolId pool;
  std::string pool_name, name;
  std::string host;  ///< the machine it is on; empty: not said
  Address address;
  bool configured = false;  ///< named by the configuration that runs; else its last sessions may
                            ///< still be there

  unsigned weight_configured = 1;
  std::optional<unsigned> weight_set;  ///< the operator's, until changed back or reloaded away

  Health health = Health::up;
  std::string health_reason;
  WallTime health_since{};
  bool takes_new = true;     ///< false: it said "busy"; no new sessions, and not down
  bool hinted_down = false;  ///< the other box of the pair says so, and we do not know better yet
  double ramp = 1;           ///< the share of its weight that slow start gives it now, (0, 1]

  AdminState admin;

  [[nodiscard]] std::string path() const { return pool_name + "/" + name; }
  [[nodiscard]] unsigned weight() const { return weight_set.value_or(weight_configured); }
  /// As poise_backend_state has it: checking up recovering down draining disabled.
  [[nodiscard]] std::string_view state() const;
};

/// Every backend there ever was, by id. Control thread only.
class BackendTable {
 public:
  /// The entry of `id`, made when it is new.
  BackendStatus& at(BackendId id);
  [[nodiscard]] const BackendStatus& at(BackendId id) const { return backends_.at(id.value); }
  /// Before the backends of a configuration are entered: nobody is configured.
  void unconfigure();
  /// `backend` has its names and is configured.
  void configure(BackendStatus& backend);
  /// By "pool/name", of those configured; null when nobody is called so.
  [[nodiscard]] BackendStatus* find(std::string_view path);
  [[nodiscard]] const BackendStatus* find(std::string_view path) const;
  [[nodiscard]] const std::vector<BackendStatus>& all() const { return backends_; }
  [[nodiscard]] std::vector<BackendStatus>& all() { return backends_; }

 private:
  std::vector<BackendStatus> backends_;
  /// Who bore the name last, configured or not.
  std::map<std::string, BackendId, std::less<>> by_path_;
};

}  // namespace poise::control
