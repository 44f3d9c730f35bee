#include "control/bans.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace poise::control {

Result<void> Bans::add(Ban ban) {
  if (ban.network.prefix == 0)
    return Error{"",
                 fmt::format("{} is everybody: disable the services instead", ban.network.text())};
  const auto at = all_.find(ban.network);
  if (at == all_.end() && all_.size() == kMax)
    return Error{"",
                 fmt::format("there are {} bans already: ban wider networks, or lift some", kMax)};
  lifted_.erase(ban.network);
  if (at != all_.end()) {
    at->second = std::move(ban);
    return {};
  }
  all_.emplace(ban.network, std::move(ban));
  return {};
}

void Bans::remember_lifted(Ban lifted) {
  lifted.until = lifted.since;
  const Network network = lifted.network;
  lifted_.insert_or_assign(network, std::move(lifted));
  if (lifted_.size() <= kMax) return;
  lifted_.erase(std::min_element(lifted_.begin(), lifted_.end(), [](const auto& a, const auto& b) {
    return a.second.since < b.second.since;
  }));
}

bool Bans::remove(const Network& network) {
  return all_.erase(network) > 0;
}

std::vector<Ban> Bans::expire(WallTime now) {
  std::vector<Ban> over;
  for (auto at = all_.begin(); at != all_.end();) {
    const bool ends = at->second.until && *at->second.until <= now;
    if (ends) over.push_back(std::move(at->second));
    at = ends ? all_.erase(at) : std::next(at);
  }
  return over;
}

std::optional<WallTime> Bans::next_end() const {
  std::optional<WallTime> next;
  for (const auto& [network, ban] : all_)
    if (ban.until && (!next || *ban.until < *next)) next = ban.until;
  return next;
}

const Ban* Bans::of(const Address& address) const {
  const Ban* narrowest = nullptr;
  for (const auto& [network, ban] : all_)
    if (network.contains(address) &&
        (narrowest == nullptr || network.prefix > narrowest->network.prefix))
      narrowest = &ban;
  return narrowest;
}

std::shared_ptr<const balance::NetworkSet> Bans::networks() const {
  if (all_.empty()) return nullptr;
  std::vector<Network> networks;
  networks.reserve(all_.size());
  for (const auto& [network, ban] : all_) networks.push_back(network);
  return std::make_shared<const balance::NetworkSet>(networks);
}

}  // namespace poise::control
