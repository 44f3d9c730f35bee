#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "poise/address.h"

namespace poise::balance {

/// Networks that an address may lie in: allow and deny lists, bans, trusted proxies, exceptions.
/// Immutable: control builds another one when a list changes or a ban runs out, and publishes it
/// with a snapshot. Any thread may ask; nothing is allocated or locked then. Copies share what was
/// built.
///
/// IPv4 and IPv6 apart. Networks either contain one another or have nothing in common, so each
/// family is kept as the sorted starts of stretches that one network, the narrowest, answers for;
/// an answer is one binary search: 15 steps for 10,000 networks. An IPv4 client is never matched by
/// an IPv6 network (Address keeps ::ffff:a.b.c.d as IPv4).
class NetworkSet {
 public:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  NetworkSet() = default;
  explicit NetworkSet(std::span<const Network> networks);

  [[nodiscard]] bool empty() const { return tables_ == nullptr; }

  /// One is a copy of the other.
  [[nodiscard]] bool shares(const NetworkSet& other) const { return tables_ == other.tables_; }

  [[nodiscard]] bool contains(const Address& address) const { return find(address) != kNone; }

  /// The narrowest network that holds `address`, as its index in what the set was built from (the
  /// first of equal ones); kNone.
  [[nodiscard]] std::uint32_t find(const Address& address) const;

 private:
  __extension__ using Wide = unsigned __int128;

  template <class Key>
  struct Stretches {
    std::vector<Key> starts;             ///< sorted; the first is 0 unless there is none
    std::vector<std::uint32_t> answers;  ///< whose stretch it is, kNone: nobody's

    void build(std::span<const Network> networks, std::uint8_t family);
    [[nodiscard]] std::uint32_t find(Key key) const;
  };

  struct Tables {
    Stretches<std::uint32_t> v4;
    Stretches<Wide> v6;
  };
  std::shared_ptr<const Tables> tables_;  ///< null: no network
};

}  // namespace poise::balance
