#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "balance/network_set.h"
#include "control/backend_table.h"
#include "poise/address.h"
#include "poise/result.h"

namespace poise::control {

/// A network that no service serves, by an operator's decision or that of a program such as
/// fail2ban.
struct Ban {
  Network network;
  WallTime since{};
  std::optional<WallTime> until;  ///< none: for ever
  std::string reason;
  std::string user;
};

/// All of them, at most kMax. Pure: time is a value. Control thread only.
class Bans {
 public:
  static constexpr std::size_t kMax = 10'000;

  /// In the place of one for the same network.
  Result<void> add(Ban ban);
  /// False: there is none for exactly this network.
  bool remove(const Network& network);

  /// A ban that was lifted by a decision, as a ban that ends when it begins: so that the other box
  /// of a pair, or this one's memory, doesn't bring back what is over. The last kMax.
  void remember_lifted(Ban lifted);
  [[nodiscard]] const std::map<Network, Ban>& lifted() const { return lifted_; }
  /// Takes out those that are over and returns them.
  std::vector<Ban> expire(WallTime now);

  [[nodiscard]] std::optional<WallTime> next_end() const;
  [[nodiscard]] const std::map<Network, Ban>& all() const { return all_; }
  /// The narrowest that holds `address`; null: not banned.
  [[nodiscard]] const Ban* of(const Address& address) const;
  /// For the workers; null when there is none.
  [[nodiscard]] std::shared_ptr<const balance::NetworkSet> networks() const;

 private:
  std::map<Network, Ban> all_, lifted_;
};

}  // namespace poise::control
