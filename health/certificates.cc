#include "health/certificates.h"

#include <fmt/format.h>

#include <algorithm>

namespace poise::health {

std::vector<std::string> Certificates::saw(const Target& target, const TlsFacts& facts,
                                           std::int64_t now) {
  std::vector<std::string> warnings;
  Pool& pool = pools_[target.pool];
  Seen& seen = pool.backends[target.id.value];
  seen.backend = target.name;
  seen.fingerprint = facts.fingerprint;
  seen.subject = facts.subject;
  if (facts.not_after < now + kWarnSeconds && seen.warned != facts.fingerprint) {
    seen.warned = facts.fingerprint;
    const std::int64_t hours = (facts.not_after - now) / 3600;
    warnings.push_back(fmt::format("backend {}: its certificate ({}) {}", target.path(),
                                   facts.subject,
                                   facts.not_after <= now ? std::string("has expired")
                                   : hours < 48 ? fmt::format("expires in {} hours", hours)
                                                : fmt::format("expires in {} days", hours / 24)));
  }
  const auto other =
      std::find_if(pool.backends.begin(), pool.backends.end(),
                   [&](const auto& each) { return each.second.fingerprint != seen.fingerprint; });
  const bool differ = other != pool.backends.end();
  if (differ && !pool.differ)
    warnings.push_back(fmt::format(
        "pool {}: its servers show different certificates: {} has {} ({:.16}), {} has {} ({:.16}); "
        "clients that check names or pin certificates will see both",
        target.pool, other->second.backend, other->second.subject, other->second.fingerprint,
        seen.backend, seen.subject, seen.fingerprint));
  pool.differ = differ;
  return warnings;
}

void Certificates::keep(const std::vector<Target>& targets) {
  std::map<std::string, Pool> kept;
  for (const Target& target : targets) {
    const auto pool = pools_.find(target.pool);
    if (pool == pools_.end()) continue;
    kept[target.pool].differ = pool->second.differ;
    if (const auto seen = pool->second.backends.find(target.id.value);
        seen != pool->second.backends.end())
      kept[target.pool].backends.insert(*seen);
  }
  pools_ = std::move(kept);
}

}  // namespace poise::health
