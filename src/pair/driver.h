#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "log/log.h"
#include "net/fd.h"
#include "pair/guard.h"
#include "pair/link.h"
#include "pair/protocol.h"
#include "pair/vrrp.h"
#include "poise/config.h"
#include "poise/result.h"

namespace poise::pair {

/// The pair's thread: carries the link's bytes, tells the guard that we live, and looks what
/// keepalived does. It decides nothing; what it sees comes out through Output, called in its
/// thread, which must only pass it on.
class Driver {
 public:
  struct Options {
    config::Pair pair;
    std::string key;
    std::string program;  ///< our version
    std::string fifo;     ///< keepalived's notices
  };
  struct Output {
    std::function<void(Event)> event;
    /// Whether the link is of use, and else why not.
    std::function<void(bool joined, std::string trouble)> link;
    std::function<void(std::vector<VrrpWatch::Instance>)> roles;
  };

  Driver(Options options, const Guard* guard, log::Log& log, Output output);
  ~Driver();  ///< stops
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  Result<void> start();
  void stop();

  // From any thread.

  /// Whether this box may have the addresses.
  void set_serves(bool serves) { serves_ = serves; }
  /// Looks at the addresses as often as that; seldom when nothing is expected.
  void look_every(std::chrono::milliseconds interval) { look_interval_ms_ = interval.count(); }
  void set_ping(Ping ping);
  void configure(std::vector<config::Vrrp> instances);

  /// False: nothing may be pushed now.
  [[nodiscard]] bool room();
  void push(Change change);
  void send(const Message& message);

  struct Figures {
    std::size_t unacknowledged = 0;
    std::uint64_t pushed = 0, acknowledged = 0, heard = 0;
    bool joined = false;
  };
  [[nodiscard]] Figures figures();

 private:
  void run();
  void wake() const;

  const Options options_;
  const Guard* const guard_;
  log::Log& log_;
  const Output output_;
  std::mutex mutex_;  ///< of what follows
  Protocol protocol_;
  Ping ping_;
  std::vector<config::Vrrp> instances_;
  bool instances_new_ = true;
  std::atomic<bool> serves_{false}, stopping_{false};
  std::atomic<std::int64_t> look_interval_ms_{1000};
  net::Fd wake_;
  Link link_;
  VrrpWatch vrrp_;
  std::thread thread_;
};

}  // namespace poise::pair
