#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "balance/pool.h"
#include "control/ipvs_table.h"
#include "control/loop.h"
#include "control/views.h"
#include "control/world.h"
#include "ipvs/host_checks.h"
#include "ipvs/kernel.h"
#include "log/log.h"
#include "poise/address.h"
#include "poise/config.h"
#include "poise/ids.h"
#include "poise/result.h"

namespace poise::control {

/// What the kernel has carried for one service and backend, an earlier run of poised included.
struct IpvsUse {
  ServiceId service;
  BackendId backend;
  std::uint64_t connections = 0;  ///< sessions, over or not
  std::uint64_t ended = 0;        ///< of these; the kernel doesn't say how
  std::uint64_t bytes_to_backend = 0;
  std::uint64_t bytes_to_client = 0;  ///< with NAT; 0 with direct routing and tunnels, whose
                                      ///< answers do not come by
  std::uint32_t active = 0, inactive = 0;
  std::uint32_t weight = 0;  ///< as the kernel has it
  Rates rates;
};

/// The services whose forwarding is the kernel's: keeps its ip_vs table as configuration, health
/// and the operator want it, puts right what others change, reads what it has carried. Control
/// thread.
class IpvsServices {
 public:
  /// `resolved` is what the last update() was about, with names as addresses. Which services are
  /// ours is remembered in `state_directory`; empty: it ends with the process.
  IpvsServices(Loop& loop, log::Log& log, World& world, const config::Config& resolved,
               const std::string& state_directory);
  ~IpvsServices();
  IpvsServices(const IpvsServices&) = delete;
  IpvsServices& operator=(const IpvsServices&) = delete;

  /// What an earlier run left. Before the rest.
  void open();
  /// Finds out whether the kernel can, and lets us. An error when it can't and a service of
  /// `config` has no fallback; else those services are the proxy's. Before the listeners are
  /// opened, and before a reload changes anything.
  Result<void> check(const config::Config& config);

  /// What is true now. The kernel's table follows once begin() was called.
  void update(const std::vector<std::shared_ptr<const balance::Pool>>& pools);

  /// First verdicts are there: takes over what an earlier run left, and keeps the table from now
  /// on.
  void begin();

  /// Reads the table, puts right what is not as we left it, and lets go what is no longer in use.
  /// Happens every two seconds; at once for who must know how many sessions there are.
  void look();

  /// Nobody gets new connections any more. Those to addresses that are `elsewhere` (ports 0) aren't
  /// waited for: the other node of the pair carries them on.
  void drain(std::set<Address> elsewhere);
  /// No connection is left, or there is nothing in the kernel.
  [[nodiscard]] bool drained() const;
  [[nodiscard]] std::uint64_t active() const;
  /// Takes our services out of the table.
  void close();

  /// The connection sync daemons that should run from now on, at most one of each role: what
  /// connections there are is told to the other node of a pair (master), or heard from it (backup).
  /// Other daemons of these roles, and those of an earlier call, are stopped. The service must be
  /// in the kernel of both nodes under the same addresses.
  void sync(std::vector<ipvs::SyncDaemon> wanted);

  /// By service and backend, as last read: every two seconds and after each change.
  [[nodiscard]] std::vector<IpvsUse> use() const;
  /// Open sessions, of them.
  [[nodiscard]] std::uint32_t active(BackendId backend) const;
  [[nodiscard]] std::uint32_t active(ServiceId service) const;

  /// Its sessions are the kernel's now, not the proxy's.
  [[nodiscard]] bool carries(const config::Service& service) const;

  /// The kernel can, and lets us.
  [[nodiscard]] bool available() const { return available_; }
  /// What the host lacks for these services.
  [[nodiscard]] std::vector<ipvs::Finding> doctor() const;

 private:
  void keep();
  void log_repair(const std::vector<ipvs::Change>& changes);
  void look_soon();
  void follow();
  void apply(const ipvs::Table& wanted);
  void take_over();
  void own(const std::set<ipvs::ServiceKey>& services);
  void raise_timeouts();
  void follow_sync();
  [[nodiscard]] ipvs::HostNeeds needs() const;
  void count(const ipvs::Reading& reading);
  void say_once(std::string trouble);
  void say_once(std::string trouble, std::string& said);
  void log_findings();

  Loop& loop_;
  log::Log& log_;
  World& world_;
  ipvs::Kernel kernel_;
  const config::Config& config_;  ///< with names resolved
  std::vector<std::shared_ptr<const balance::Pool>> pools_;
  const std::string owned_path_;  ///< empty: there is no file
  std::set<ipvs::ServiceKey> owned_;
  bool owned_written_ = true;  ///< false: it can't be, which was said
  ipvs::Table wanted_;
  ipvs::Reading now_;  ///< as last seen
  std::map<std::pair<std::uint32_t, std::uint32_t>, IpvsUse> totals_;
  std::map<std::pair<ipvs::ServiceKey, Address>, ipvs::Traffic> counted_;
  /// Sums of totals_' active ones, by id.
  std::unordered_map<std::uint32_t, std::uint32_t> active_of_service_, active_of_backend_;
  std::vector<ipvs::SyncDaemon> sync_wanted_, sync_started_;
  std::string trouble_, sync_trouble_;  ///< that was logged last
  std::optional<Loop::Clock::time_point> repair_logged_;
  unsigned repairs_left_out_ = 0;
  ipvs::Timeouts timeouts_asked_;  ///< by the configuration, when they were raised last
  std::optional<ipvs::HostNeeds> needs_checked_;
  bool available_ = false;
  bool began_ = false;
  bool keeping_ = false;  ///< what was there has been taken over
  bool stopping_ = false;
  std::set<Address> elsewhere_;  ///< while stopping
  bool look_armed_ = false;
};

}  // namespace poise::control
