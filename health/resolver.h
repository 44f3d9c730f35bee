#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "health/addresses.h"
#include "poise/config.h"
#include "poise/result.h"

struct ev_loop;

namespace poise::health {

/// Keeps the addresses of host names current: asks for A and AAAA (hosts file and DNS, as
/// /etc/nsswitch.conf and /etc/resolv.conf say), asks again when the answer's TTL is over, and
/// keeps what it knows when nobody answers. Belongs to the loop's thread; never blocks but for
/// reading the resolver's own files, which are read anew after a failure.
class Resolver {
 public:
  struct Output {
    /// The addresses of a name have changed; ports are 0. Never empty.
    std::function<void(const std::string& name, const std::vector<Address>&)> changed;
    /// A sentence for the operator.
    std::function<void(config::LogLevel, std::string)> alert;
  };

  /// `servers`: "127.0.0.1:5353,..." instead of the system's; empty: the system's.
  Resolver(struct ev_loop* loop, std::string servers, Output output);
  ~Resolver();  ///< without calling back
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  /// Fails when the resolver library does: out of memory, an unreadable `servers`.
  Result<void> open();

  /// Replaces the set; a name that was in it before keeps what is known.
  void set_names(const std::vector<std::string>& names);

  struct Implementation;

 private:
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace poise::health
