#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "poise/address.h"

/// What a DNS name stands for, as far as we know. Pure: answers in, addresses out.
namespace poise::health {

/// What asking for one address family brought.
struct FamilyAnswer {
  enum class Kind : std::uint8_t {
    addresses,
    none,    ///< the name, or the family, has no address: an answer
    failed,  ///< no answer: server failure, timeout, refused
  };
  Kind kind = Kind::failed;
  std::vector<Address> addresses;  ///< ports are 0
  std::chrono::seconds ttl{};      ///< the least of them
  std::string error;               ///< unless `addresses`
};

/// The addresses of one name. The order is stable: an address keeps its place while it is known,
/// new ones come last, IPv4 before IPv6, in ascending order. A failure keeps what was known; a name
/// that has vanished altogether counts as a failure too: a slip in the zone takes no server out.
class AddressSet {
 public:
  static constexpr std::size_t kMax = 16;
  static constexpr std::chrono::seconds kTtlMin{5}, kTtlMax{3600}, kRetryMax{300};

  /// True: the addresses have changed.
  bool update(const FamilyAnswer& v4, const FamilyAnswer& v6);

  [[nodiscard]] const std::vector<Address>& addresses() const { return addresses_; }

  /// Until the name is to be asked for again: the answer's TTL within kTtlMin and kTtlMax; after
  /// failures kTtlMin, doubled each time up to kRetryMax.
  [[nodiscard]] std::chrono::seconds wait() const { return wait_; }

  /// Why the last update failed; empty: it didn't.
  [[nodiscard]] const std::string& error() const { return error_; }

  /// Addresses of the last answer that were left out because there were more than kMax.
  [[nodiscard]] std::size_t left_out() const { return left_out_; }

 private:
  std::vector<Address> addresses_;
  std::chrono::seconds wait_{0};
  unsigned failures_ = 0;
  std::size_t left_out_ = 0;
  std::string error_;
};

/// What the backends of one name are called: the first address keeps the name, others are
/// "NAME@ADDRESS".
[[nodiscard]] std::string expanded_name(const std::string& name, const Address& address,
                                        std::size_t position);

}  // namespace poise::health
