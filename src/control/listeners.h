#pragma once

#include <functional>
#include <string>
#include <vector>

#include "control/loop.h"
#include "control/worker_threads.h"
#include "control/world.h"
#include "log/log.h"
#include "net/fd.h"
#include "net/socket.h"
#include "poise/config.h"
#include "poise/result.h"

namespace poise::control {

/// The listening sockets: one a worker for each address, in one reuseport group. Owns their
/// descriptors. An address that two configurations both name is never closed and made again:
/// closing one socket of a group resets the clients in its queue. Control thread only.
class Listeners {
 public:
  struct Open {
    std::string service;
    Address wanted;   ///< as configured, perhaps with port 0
    Address address;  ///< with the port that was bound
    net::ListenerOptions options;
    std::vector<net::Fd> fds;  ///< one a worker
  };

  Listeners(WorkerThreads& workers, log::Log& log) : workers_(workers), log_(log) {}

  /// Opens what `config` names and nobody has opened yet, without giving it to any worker. An error
  /// leaves everything as it was.
  Result<std::vector<Open>> open_missing(const config::Config& config, unsigned workers);

  /// Makes `opened` and those already open the listeners of `config`; workers accept on new ones at
  /// once and let go of removed ones, which close soon after. The workers have been sent a snapshot
  /// that knows the services.
  void apply(const config::Config& config, std::vector<Open> opened, const World& world,
             Loop& loop);

  /// Removed ones that a worker has not let go of yet.
  [[nodiscard]] bool closing() const { return closing_ > 0; }
  /// No worker is given anything any more.
  void stop() { stopped_ = true; }
  /// All workers have let go.
  void close_all() { open_.clear(); }

  [[nodiscard]] const std::vector<Open>& open() const { return open_; }

 private:
  bool claim(std::vector<bool>& claimed, const std::string& service, const Address& wanted,
             std::size_t& index) const;
  [[nodiscard]] bool overlaps_ours(const Address& address) const;
  void accept(const Open& open, std::size_t worker, ServiceId service);
  void let_go(const Open& open, Loop& loop, std::function<void(std::size_t worker)> each,
              std::function<void()> all);

  WorkerThreads& workers_;
  log::Log& log_;
  std::vector<Open> open_;
  std::vector<Address> closing_addresses_;
  std::size_t closing_ = 0;
  bool stopped_ = false;
};

}  // namespace poise::control
