#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "health/target.h"
#include "poise/tls_facts.h"

namespace poise::health {

/// The certificates that probes saw, and what an operator should hear about them: once for a
/// certificate that ends within two weeks, once for a pool whose servers show different ones. Pure:
/// time is Unix seconds. Health thread.
class Certificates {
 public:
  static constexpr std::int64_t kWarnSeconds = 14 * 24 * 3600;

  /// What `target` shows now; returns the warnings that are due.
  std::vector<std::string> saw(const Target& target, const TlsFacts& facts, std::int64_t now);

  /// Forgets all but these.
  void keep(const std::vector<Target>& targets);

 private:
  struct Seen {
    std::string backend, fingerprint, subject;
    std::string warned;  ///< the fingerprint whose end was announced
  };
  struct Pool {
    std::map<std::uint32_t, Seen> backends;
    bool differ = false;
  };
  std::map<std::string, Pool> pools_;
};

}  // namespace poise::health
