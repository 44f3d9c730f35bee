#include "health/addresses.h"

#include <algorithm>

namespace poise::health {

bool AddressSet::update(const FamilyAnswer& v4, const FamilyAnswer& v6) {
  using Kind = FamilyAnswer::Kind;
  if (v4.kind != Kind::addresses && v6.kind != Kind::addresses) {
    error_ = v4.kind == Kind::failed || v6.kind != Kind::failed ? v4.error : v6.error;
    wait_ = std::min(kRetryMax, kTtlMin * (1 << std::min(failures_, 10u)));
    ++failures_;
    return false;
  }
  failures_ = 0;
  error_.clear();
  std::chrono::seconds ttl = kTtlMax;
  std::vector<Address> found;
  for (const FamilyAnswer* answer : {&v4, &v6}) {
    const auto family = static_cast<std::uint8_t>(answer == &v4 ? AF_INET : AF_INET6);
    if (answer->kind == Kind::addresses) {
      ttl = std::min(ttl, answer->ttl);
      std::vector<Address> sorted = answer->addresses;
      std::sort(sorted.begin(), sorted.end());
      found.insert(found.end(), sorted.begin(), sorted.end());
    } else if (answer->kind == Kind::failed) {
      // One family answered, the other did not: what was known of it stays, and is asked for soon.
      ttl = kTtlMin;
      for (const Address& known : addresses_)
        if (known.family == family) found.push_back(known);
    }
  }
  wait_ = std::clamp(ttl, kTtlMin, kTtlMax);

  std::vector<Address> next;
  for (const Address& known : addresses_)
    if (std::find(found.begin(), found.end(), known) != found.end()) next.push_back(known);
  for (const Address& each : found)
    if (std::find(next.begin(), next.end(), each) == next.end()) next.push_back(each);
  left_out_ = next.size() > kMax ? next.size() - kMax : 0;
  next.resize(std::min(next.size(), kMax));
  if (next == addresses_) return false;
  addresses_ = std::move(next);
  return true;
}

std::string expanded_name(const std::string& name, const Address& address, std::size_t position) {
  return position == 0 ? name : name + "@" + address.ip_text();
}

}  // namespace poise::health
