#pragma once

#include <poll.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "log/log.h"
#include "net/fd.h"
#include "pair/protocol.h"
#include "poise/address.h"
#include "poise/result.h"
#include "tls/context.h"
#include "tls/engine.h"

namespace poise::pair {

/// The connection between the boxes: TLS 1.3 with the pair's key and nothing else, over TCP. One
/// box calls, the other listens and takes calls from the first one's address only; a new connection
/// that has proved the key takes the place of the old one. Used by the driver's thread.
class Link {
 public:
  using Clock = std::chrono::steady_clock;
  /// No word from the peer for so long ends the connection; the next is tried after kRetry.
  static constexpr std::chrono::milliseconds kSilence{3000}, kRetry{1000};

  struct Options {
    Address own, peer;
    bool calls = false;
    std::string key;
  };

  /// `protocol` is used under `mutex`: others push into it.
  Link(Options options, Protocol& protocol, std::mutex& mutex, log::Log& log);

  Result<void> open();

  /// Appends what is to be polled.
  void add_to(std::vector<pollfd>& polled) const;
  /// Looks at everything that is ready, and at the time.
  void step(Clock::time_point now);

  /// Why there is no connection; empty: there is one.
  [[nodiscard]] const std::string& trouble() const { return trouble_; }

 private:
  struct Connection {
    net::Fd fd;
    std::unique_ptr<tls::Engine> tls;
    bool connecting = false;
    Clock::time_point heard{};
    std::string out;  ///< ciphertext
  };

  void call(Clock::time_point now);
  void accept(Clock::time_point now);
  /// False: it has ended.
  bool serve(Connection& connection, Clock::time_point now, bool current);
  bool receive(Connection& connection);
  bool flush(Connection& connection);
  void adopt(Clock::time_point now);
  /// `newcomer`: the connection that was to become the current one ends, the current one does not.
  void drop(std::string why, bool newcomer = false);
  [[nodiscard]] std::unique_ptr<Connection> make(net::Fd fd, Clock::time_point now) const;

  /// Log::limited()'s numbers.
  static constexpr std::size_t kLogLink = 62, kLogStranger = 63;

  const Options options_;
  Protocol& protocol_;
  std::mutex& mutex_;
  log::Log& log_;
  std::shared_ptr<const tls::Context> context_;
  net::Fd listener_;
  std::unique_ptr<Connection> current_;  ///< the protocol speaks on it once TLS is open
  std::unique_ptr<Connection> next_;     ///< has not proved the key yet
  bool speaking_ = false;
  Clock::time_point next_call_{};
  std::string trouble_ = "not connected yet";
  std::string plain_;
};

}  // namespace poise::pair
