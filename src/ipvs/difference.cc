#include "ipvs/difference.h"

#include <fmt/format.h>

namespace poise::ipvs {
namespace {

using Kind = Change::Kind;

void add_destinations(const ServiceKey& key, const Service& wanted, const Service& actual,
                      std::vector<Change>& changes) {
  const auto change = [&](Kind kind, const Address& address, const Destination& destination) {
    changes.push_back(
        {.kind = kind, .service = key, .address = address, .destination = destination});
  };
  for (const auto& [address, destination] : wanted.destinations)
    if (!actual.destinations.contains(address)) change(Kind::new_destination, address, destination);
  for (const auto& [address, destination] : wanted.destinations)
    if (const auto is = actual.destinations.find(address);
        is != actual.destinations.end() && is->second != destination)
      change(Kind::set_destination, address, destination);
  for (const auto& [address, destination] : actual.destinations)
    if (!wanted.destinations.contains(address)) change(Kind::delete_destination, address, {});
}

std::string settings_text(const ServiceSettings& settings) {
  std::string text = "scheduler " + settings.scheduler;
  if (settings.persistence)
    text += fmt::format(", persistent {} s by /{}", settings.persistence->timeout_s,
                        settings.persistence->prefix);
  return text;
}

std::string destination_text(const Destination& destination) {
  std::string text = fmt::format("{}, weight {}", name_of(destination.method), destination.weight);
  if (destination.max != 0) text += fmt::format(", at most {}", destination.max);
  return text;
}

}  // namespace

std::vector<Change> difference(const Table& wanted, const Table& actual,
                               const std::set<ServiceKey>& ours) {
  std::vector<Change> changes;
  for (const ServiceKey& key : ours)
    if (actual.contains(key) && !wanted.contains(key))
      changes.push_back({.kind = Kind::delete_service, .service = key});
  for (const auto& [key, service] : wanted) {
    const auto is = actual.find(key);
    if (is == actual.end()) {
      changes.push_back({.kind = Kind::new_service, .service = key, .settings = service.settings});
      add_destinations(key, service, {}, changes);
      continue;
    }
    if (is->second.settings != service.settings)
      changes.push_back({.kind = Kind::set_service, .service = key, .settings = service.settings});
    add_destinations(key, service, is->second, changes);
  }
  return changes;
}

bool perform(const Change& change, Table& table) {
  const auto service = table.find(change.service);
  if (change.kind == Kind::new_service)
    return table.try_emplace(change.service, Service{change.settings, {}}).second;
  if (service == table.end()) return false;
  auto& destinations = service->second.destinations;
  switch (change.kind) {
    case Kind::new_service:
      break;
    case Kind::set_service:
      service->second.settings = change.settings;
      return true;
    case Kind::delete_service:
      table.erase(service);
      return true;
    case Kind::new_destination:
      return destinations.try_emplace(change.address, change.destination).second;
    case Kind::set_destination:
      if (!destinations.contains(change.address)) return false;
      destinations[change.address] = change.destination;
      return true;
    case Kind::delete_destination:
      return destinations.erase(change.address) == 1;
  }
  return false;
}

std::string Change::text() const {
  switch (kind) {
    case Kind::new_service:
      return fmt::format("add service {} ({})", service.text(), settings_text(settings));
    case Kind::set_service:
      return fmt::format("change service {} ({})", service.text(), settings_text(settings));
    case Kind::delete_service:
      return fmt::format("remove service {}", service.text());
    case Kind::new_destination:
      return fmt::format("add server {} ({}) to {}", address.text(), destination_text(destination),
                         service.text());
    case Kind::set_destination:
      return fmt::format("change server {} ({}) of {}", address.text(),
                         destination_text(destination), service.text());
    case Kind::delete_destination:
      return fmt::format("remove server {} of {}", address.text(), service.text());
  }
  return {};
}

}  // namespace poise::ipvs
