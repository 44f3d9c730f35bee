#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "balance/pool.h"
#include "control/ipvs_table.h"
#include "control/loop.h"
#include "control/world.h"
#include "ipvs/host_checks.h"
#include "ipvs/kernel.h"
#include "log/log.h"
#include "poise/config.h"
#include "poise/ids.h"
#include "poise/result.h"

namespace poise::control {

/// What the kernel has carried for one service and backend, since this process began to look.
struct IpvsUse {
  ServiceId service;
  BackendId backend;
  std::uint64_t connections = 0;  ///< sessions, over or not
  std::uint64_t bytes_to_backend = 0;
  std::uint64_t bytes_to_client = 0;  ///< with NAT; 0 with direct routing and tunnels, whose
                                      ///< answers do not come by
  std::uint32_t active = 0, inactive = 0;
  std::uint32_t weight = 0;             ///< as the kernel has it
  std::uint64_t connections_per_s = 0;  ///< the kernel's estimates
  std::uint64_t bytes_to_backend_per_s = 0, bytes_to_client_per_s = 0;
};

/// The services whose forwarding is the kernel's: keeps its ip_vs table as configuration, health
/// and the operator want it, puts right what others change, reads what it has carried. Control
/// thread.
class IpvsServices {
 public:
  IpvsServices(Loop& loop, log::Log& log, World& world);
  ~IpvsServices();
  IpvsServices(const IpvsServices&) = delete;
  IpvsServices& operator=(const IpvsServices&) = delete;

  /// Finds out whether the kernel can. An error when it can't and a service has no fallback; else
  /// those services are the proxy's. Before the listeners are opened.
  Result<void> open(const config::Config& config);

  /// What is true now. The kernel's table follows once begin() was called.
  void update(const config::Config& resolved,
              const std::vector<std::shared_ptr<const balance::Pool>>& pools);

  /// First verdicts are there: takes over what an earlier run left, and keeps the table from now
  /// on.
  void begin();

  /// Nobody gets new connections any more.
  void drain();
  /// No connection is left, or there is nothing in the kernel.
  [[nodiscard]] bool drained() const;
  [[nodiscard]] std::uint64_t active() const;
  /// Takes our services out of the table.
  void close();

  /// The connection sync daemons that should run; others of ours are stopped.
  void sync(const std::vector<ipvs::SyncDaemon>& wanted);

  /// By service and backend, as last read; every kLook.
  [[nodiscard]] std::vector<IpvsUse> use() const;

  /// What the host lacks for these services.
  [[nodiscard]] std::vector<ipvs::Finding> doctor() const;

 private:
  [[nodiscard]] bool active_here() const { return available_ && any_in_kernel(config_); }
  void look();
  void look_soon();
  void follow();
  void apply(const ipvs::Table& wanted);
  void take_over();
  void own(const std::set<ipvs::ServiceKey>& services);
  void raise_timeouts();
  void count(const ipvs::Reading& reading);
  void say_once(std::string trouble);
  void log_findings();

  Loop& loop_;
  log::Log& log_;
  World& world_;
  ipvs::Kernel kernel_;
  config::Config config_;
  std::vector<std::shared_ptr<const balance::Pool>> pools_;
  const std::string owned_path_;
  std::set<ipvs::ServiceKey> owned_;
  bool owned_written_ = true;  ///< false: it can't be, which was said
  ipvs::Table wanted_;
  ipvs::Reading now_;  ///< as last seen
  std::map<std::pair<std::uint32_t, std::uint32_t>, IpvsUse> totals_;
  std::map<std::pair<ipvs::ServiceKey, Address>, ipvs::Traffic> counted_;
  std::vector<ipvs::SyncDaemon> sync_;
  std::string trouble_;  ///< that was logged last
  Loop::Clock::time_point repair_logged_{};
  unsigned repairs_left_out_ = 0;
  bool available_ = false;
  bool began_ = false;
  bool stopping_ = false;
  bool look_armed_ = false;
};

}  // namespace poise::control
