#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "ipvs/difference.h"
#include "ipvs/messages.h"
#include "ipvs/table.h"
#include "poise/result.h"

struct nl_sock;

namespace poise::ipvs {

/// The ip_vs table of the network namespace this thread is in. Calls wait for the kernel, which
/// answers at once, and at most kPatience. After an error the next call connects anew: the module
/// may have been unloaded and loaded again, with another family number. Needs CAP_NET_ADMIN.
class Kernel {
 public:
  Kernel();
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  /// Says what is missing when there is no ip_vs to be had. Makes the kernel load the module.
  Result<void> connect();

  /// Connects and looks whether the table may be read, and so be changed.
  Result<void> usable();

  /// The whole table.
  Result<Reading> read();
  /// These services; those that aren't there are left out.
  Result<Reading> read(const std::set<ServiceKey>& services);

  /// Sends `changes`, many in one go, and gives back the errno of each; 0: done. A change that
  /// fails keeps none of the others from being done.
  Result<std::vector<int>> perform(std::span<const Change> changes);

  Result<Timeouts> timeouts();
  Result<void> set(const Timeouts& timeouts);

  Result<std::vector<SyncDaemon>> daemons();
  Result<void> start(const SyncDaemon& daemon);
  Result<void> stop(const SyncDaemon& daemon);

  /// Netlink messages sent so far.
  [[nodiscard]] std::uint64_t messages_sent() const { return messages_sent_; }

 private:
  struct Closer {
    void operator()(nl_sock* socket) const;
  };

  Result<void> connected();
  Result<void> transact(const Request& request, std::uint16_t flags,
                        const std::function<bool(const Message&)>& take, int& error);
  Result<void> command(const Request& request, const std::string& what);
  Result<void> send(std::span<const std::uint8_t> datagram);
  Result<void> receive(const std::function<void(const Message&)>& take);
  Result<void> read_services(Reading& reading, int& interrupted);
  Result<bool> read_service(const ServiceKey& key, Reading& reading);
  Result<void> read_destinations(const ServiceKey& key, Reading& reading);
  Error failed(std::string what);

  std::unique_ptr<nl_sock, Closer> socket_;
  std::uint16_t family_ = 0;
  std::uint32_t sequence_ = 0;
  std::uint64_t messages_sent_ = 0;
};

/// What applying came to.
struct Applied {
  std::vector<Change> changes;        ///< that were done
  std::vector<Change> repairs;        ///< of them, those that `believed` did not let expect
  std::vector<std::string> failures;  ///< what is not as wanted after all tries, and why
  Reading after;                      ///< the services concerned, as they are now
};

/// Makes the kernel's table what `wanted` says, as difference() does it: from `believed`, what it
/// was when last seen. Reads back what it changed, and tries again twice when that differs.
Result<Applied> apply(Kernel& kernel, const Table& wanted, const Table& believed,
                      const std::set<ServiceKey>& ours);

}  // namespace poise::ipvs
