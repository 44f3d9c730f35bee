#pragma once

#include <compare>
#include <cstdint>

namespace poise {

/// A number that names one thing for the life of the process and is never given to another.
/// Registries are indexed by it, so snapshots, records and events can carry it across threads
/// without a pointer.
template <class Kind>
struct Id {
  std::uint32_t value = UINT32_MAX;

  auto operator<=>(const Id&) const = default;
  explicit operator bool() const { return value != UINT32_MAX; }
};

using ServiceId = Id<struct ServiceKind>;
using PoolId = Id<struct PoolKind>;
using BackendId = Id<struct BackendKind>;

}  // namespace poise
