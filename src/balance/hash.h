#pragma once

#include <cstddef>
#include <cstdint>

#include "poise/address.h"

/// Numbers that must come out the same on every box and in every version: two balancers with the
/// same pool send a source to the same backend without talking to each other. Changing anything
/// here moves every source once. For that use there is no key: the boxes would have to share it.
namespace poise::balance {

/// A bijection that spreads neighbouring values over all 64 bits (the finalizer of splitmix64,
/// Steele et al. 2014).
[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

/// Where `fraction` of 2^64 falls in 0..bound-1, without a division and without modulo's bias.
[[nodiscard]] constexpr std::uint64_t scale(std::uint64_t fraction, std::uint64_t bound) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>((static_cast<Wide>(fraction) * bound) >> 64);
}

/// The n-th point of the golden-ratio sequence, as a fraction of 2^64: any run of points, and any
/// every-k-th of them, is spread evenly. Unlike n modulo a table's size it does not fall into step
/// with sessions that use k points each.
[[nodiscard]] constexpr std::uint64_t golden(std::uint64_t n) {
  return n * 0x9e3779b97f4a7c15u;
}

/// Of the IP address alone: a client's port must not move it. `key`: for tables in memory that
/// strangers fill, drawn at start, so that nobody can choose addresses that share a bucket.
[[nodiscard]] inline std::uint64_t hash_ip(const Address& address, std::uint64_t key = 0) {
  const auto word = [&address](std::size_t first) {
    std::uint64_t value = 0;
    for (std::size_t i = first; i < first + 8; ++i) value = value << 8 | address.ip[i];
    return value;
  };
  return mix(mix(word(0) ^ address.bits() ^ key) ^ word(8));
}

/// Of address and port: who a backend is, wherever it stands in the configuration.
[[nodiscard]] inline std::uint64_t hash_endpoint(const Address& address) {
  return mix(hash_ip(address) ^ address.port);
}

}  // namespace poise::balance
