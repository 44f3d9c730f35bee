#pragma once

#include <cstdint>

namespace poise::net {

/// Descriptors kept for everything that is not a session: logs, rings, listeners, pipes, refusals.
inline constexpr std::uint32_t kReservedDescriptors = 512;

/// Raises RLIMIT_NOFILE to its hard limit and returns it.
std::uint64_t raise_descriptor_limit();

/// Sessions that so many descriptors carry, two each.
std::uint32_t sessions_for(std::uint64_t descriptors);

}  // namespace poise::net
