#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "health/probe.h"
#include "poise/address.h"
#include "poise/config.h"
#include "poise/ids.h"

namespace poise::health {

/// The two kinds of probe: the greeting, often; a whole dialogue, rarely.
enum class Tier : std::uint8_t { cheap, deep };

/// One backend to watch, with all that decides how. A value; two equal ones are the same thing to
/// probe.
struct Target {
  BackendId id;
  PoolId pool_id;
  std::string pool, name;
  Address address;   ///< none: the backend's name has no address (yet)
  std::string host;  ///< backends that share one share its cap of probes; empty: the address
  config::Probe probe;
  config::Passive passive;
  std::chrono::milliseconds slow_start{};
  config::WhenAllDown when_all_down = config::WhenAllDown::attempt;
  config::SendProxy send_proxy = config::SendProxy::off;  ///< of the traffic
  std::optional<Address> source_address;
  std::string hostname;        ///< ours, for EHLO
  std::string login_password;  ///< never logged
  /// When a client last got a good greeting from it: steady clock, milliseconds; workers write.
  /// Outlives the target. Null: not known.
  const std::atomic<std::int64_t>* greeted_ms = nullptr;

  bool operator==(const Target&) const = default;

  [[nodiscard]] bool probed() const { return probe.type != config::ProbeType::off; }
  [[nodiscard]] bool probed_deep() const { return probed() && probe.deep.enabled; }
  [[nodiscard]] std::string path() const { return pool + "/" + name; }
  [[nodiscard]] std::string host_key() const { return host.empty() ? address.ip_text() : host; }
};

/// What a probe of this tier asks. STARTTLS belongs to the deep tier when there is one.
[[nodiscard]] ProbeRequest probe_request(const Target& target, Tier tier);

}  // namespace poise::health
