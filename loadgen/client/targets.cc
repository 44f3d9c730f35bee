#include "loadgen/client/targets.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "loadgen/loop/socket.h"
#include "loadgen/text/words.h"

namespace poise::loadgen {
namespace {

constexpr std::uint32_t kSourcesMax = 65536;

std::uint32_t as_number(const Address& address) {
  std::uint32_t number = 0;
  for (std::size_t at = 0; at < 4; ++at) number = number << 8 | address.ip[at];
  return number;
}

}  // namespace

Result<void> add_target(std::string_view text, std::vector<Target>& targets) {
  Target target;
  std::string_view where = text;
  if (const std::size_t at = text.rfind('@'); at != std::string_view::npos) {
    const auto preference = parse_number(text.substr(at + 1));
    if (!preference || *preference > 65535)
      return Error{std::string(text), "the preference behind @ is 0..65535"};
    target.preference = static_cast<unsigned>(*preference);
    where = text.substr(0, at);
  }
  const Result<std::vector<Address>> addresses = resolve(where);
  if (!addresses) return addresses.error();
  if (addresses->front().port == 0) return Error{std::string(text), "nobody listens on port 0"};
  for (const Address& address : *addresses) {
    target.address = address;
    targets.push_back(target);
    target.further = true;
  }
  return {};
}

void settle_targets(RunPlan& plan) {
  if (plan.choice.choice == Choice::dns_rr || plan.choice.choice == Choice::mx) return;
  const auto is_further = [](const Target& target) { return target.further; };
  std::erase_if(plan.targets, is_further);
  for (Block& block : plan.blocks) std::erase_if(block.targets, is_further);
}

Result<void> add_sources(std::string_view text, std::vector<Address>& sources) {
  const auto wrong = [&](std::string what) { return Error{std::string(text), std::move(what)}; };
  const std::size_t dash = text.find('-');
  const auto first = Address::from_ip(text.substr(0, dash));
  if (!first) return wrong("is no IP address");
  if (dash == std::string_view::npos) {
    sources.push_back(*first);
    return {};
  }
  const auto last = Address::from_ip(text.substr(dash + 1));
  if (!last) return wrong("write FIRST-LAST, two IP addresses");
  if (!first->is_v4() || !last->is_v4()) return wrong("a range is of IPv4 addresses");
  const std::uint32_t begin = as_number(*first);
  const std::uint32_t end = as_number(*last);
  if (begin > end) return wrong("the lower address comes first");
  if (end - begin >= kSourcesMax) return wrong("more than 65536 addresses");
  for (std::uint32_t number = begin;; ++number) {
    Address address = *first;
    for (unsigned at = 0; at < 4; ++at)
      address.ip[at] = static_cast<std::uint8_t>(number >> (24 - 8 * at));
    sources.push_back(address);
    if (number == end) return {};
  }
}

Result<Choice> parse_choice(std::string_view text) {
  for (std::size_t at = 0; at < kChoiceNames.size(); ++at) {
    if (text == kChoiceNames[at]) return static_cast<Choice>(at);
  }
  return Error{std::string(text),
               fmt::format("no such way to choose; there are {}", fmt::join(kChoiceNames, ", "))};
}

Result<void> check_sources(const std::vector<Address>& sources,
                           const std::vector<Target>& targets) {
  for (const Address& source : sources) {
    for (const Target& target : targets) {
      if (target.address.family != source.family)
        return Error{source.ip_text(),
                     fmt::format("cannot reach {}: IPv4 and IPv6", target.address.text())};
    }
  }
  return {};
}

}  // namespace poise::loadgen
