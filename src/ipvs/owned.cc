#include "ipvs/owned.h"

#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "net/replace_file.h"

namespace poise::ipvs {
namespace {

/// "4 192.0.2.1 25 6 0": family, address, port, protocol, mark.
std::string line_of(const ServiceKey& key) {
  return fmt::format("{} {} {} {} {}\n", key.address.is_v6() ? 6 : 4, key.address.ip_text(),
                     key.address.port, key.protocol, key.fwmark);
}

std::optional<ServiceKey> key_of(const std::string& line) {
  std::istringstream words(line);
  unsigned family = 0, port = 0, protocol = 0;
  std::string ip, rest;
  std::uint32_t mark = 0;
  if (!(words >> family >> ip >> port >> protocol >> mark) || words >> rest) return {};
  const auto address = Address::from_ip(ip);
  if (!address || port > 65535 || protocol > 255 || address->is_v6() != (family == 6)) return {};
  if (mark != 0) return ServiceKey::marked(mark, address->family);
  ServiceKey key{.address = *address, .protocol = static_cast<std::uint8_t>(protocol)};
  key.address.port = static_cast<std::uint16_t>(port);
  return key;
}

}  // namespace

std::set<ServiceKey> read_owned(const std::string& path) {
  std::set<ServiceKey> services;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (const auto key = key_of(line)) services.insert(*key);
  return services;
}

Result<void> write_owned(const std::string& path, const std::set<ServiceKey>& services) {
  std::string text;
  for (const ServiceKey& key : services) text += line_of(key);
  return net::replace_file(path, text, {.mode = 0600});
}

}  // namespace poise::ipvs
