#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "ipvs/table.h"

namespace poise::ipvs {

/// One change of the kernel's table: one message.
struct Change {
  enum class Kind : std::uint8_t {
    new_service,
    set_service,
    delete_service,
    new_destination,
    set_destination,
    delete_destination,
  };
  Kind kind = Kind::new_service;
  ServiceKey service;
  ServiceSettings settings{};  ///< of new_service and set_service
  Address address{};           ///< of the destination
  Destination destination{};   ///< of new_destination and set_destination

  bool operator==(const Change&) const = default;

  /// "add server 10.0.0.11:25 (nat, weight 1) to 192.0.2.1:25"
  [[nodiscard]] std::string text() const;
};

/// What takes the kernel from `actual` to `wanted`, the fewest changes, in an order in which no
/// service loses its last server before it has the next. Of the services in `actual` only those in
/// `wanted` or in `ours` are touched: all others are somebody else's. Pure.
[[nodiscard]] std::vector<Change> difference(const Table& wanted, const Table& actual,
                                             const std::set<ServiceKey>& ours);

/// What a change does to a table; what the kernel would refuse does nothing and returns false.
bool perform(const Change& change, Table& table);

}  // namespace poise::ipvs
