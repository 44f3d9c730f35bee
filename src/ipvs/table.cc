#include "ipvs/table.h"

#include <fmt/format.h>

namespace poise::ipvs {

ServiceKey ServiceKey::marked(std::uint32_t mark, std::uint8_t family) {
  ServiceKey key;
  key.address.family = family;
  key.fwmark = mark;
  key.protocol = 0;
  return key;
}

std::string ServiceKey::text() const {
  if (fwmark != 0) return fmt::format("mark {}{}", fwmark, address.is_v6() ? " (IPv6)" : "");
  switch (protocol) {
    case IPPROTO_TCP:
      return address.text();
    case IPPROTO_UDP:
      return address.text() + "/udp";
    case IPPROTO_SCTP:
      return address.text() + "/sctp";
    default:
      return fmt::format("{}/protocol-{}", address.text(), protocol);
  }
}

}  // namespace poise::ipvs
