#include "loadgen/client/chooser.h"

#include <algorithm>
#include <numeric>

#include "poise/check.h"

namespace poise::loadgen {

Chooser::Chooser(ChoiceSettings settings, std::vector<Target> targets)
    : settings_(settings), targets_(std::move(targets)) {
  CHECK(!targets_.empty());
  cached_.resize(std::max(settings_.senders, 1u));
}

void Chooser::order_for(std::uint64_t number, Nanos now, std::vector<std::uint32_t>& order) {
  const auto count = static_cast<std::uint32_t>(targets_.size());
  order.resize(count);
  std::iota(order.begin(), order.end(), 0u);
  const auto begin_with = [&](std::uint64_t first) {
    std::rotate(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(first % count),
                order.end());
  };
  switch (settings_.choice) {
    case Choice::turns:
      order.assign(1, static_cast<std::uint32_t>(number % count));
      return;
    case Choice::single:
      order.assign(1, 0);
      return;
    case Choice::balancer:
      return begin_with(number);
    case Choice::mx:
      for (std::uint32_t at = count; at > 1; --at)
        std::swap(order[at - 1], order[random_.below(at)]);
      std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
        return targets_[a].preference < targets_[b].preference;
      });
      return;
    case Choice::dns_rr: {
      const std::size_t sender = number % cached_.size();
      Answer& answer = cached_[sender];
      if (settings_.ttl == 0 || now >= answer.until)
        answer = {now + settings_.ttl, rotation_++ % count};
      begin_with(answer.first);
      // Spread over all senders, not the first ones in a row.
      Random fate(sender);
      if (fate.share() < settings_.first_only) order.resize(1);
      return;
    }
  }
}

}  // namespace poise::loadgen
