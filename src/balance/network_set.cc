#include "balance/network_set.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace poise::balance {
namespace {

/// The address as a number of its family's width.
template <class Key>
Key key_of(const Address& address) {
  Key key = 0;
  for (std::size_t i = 0; i < sizeof(Key); ++i) key = static_cast<Key>(key << 8 | address.ip[i]);
  return key;
}

template <class Key>
struct Range {
  Key first;
  Key last;
  std::uint32_t index;
};

}  // namespace

NetworkSet::NetworkSet(std::span<const Network> networks) {
  if (networks.empty()) return;
  auto tables = std::make_shared<Tables>();
  tables->v4.build(networks, AF_INET);
  tables->v6.build(networks, AF_INET6);
  tables_ = std::move(tables);
}

template <class Key>
void NetworkSet::Stretches<Key>::build(std::span<const Network> networks, std::uint8_t family) {
  constexpr unsigned kBits = 8 * sizeof(Key);
  constexpr Key kLast = static_cast<Key>(~Key{0});
  std::vector<Range<Key>> ranges;
  for (std::uint32_t i = 0; i < networks.size(); ++i) {
    if (networks[i].base.family != family) continue;
    const unsigned prefix = std::min<unsigned>(networks[i].prefix, kBits);
    const Key host = prefix == kBits ? Key{0} : static_cast<Key>(kLast >> prefix);
    const Key first = key_of<Key>(networks[i].base) & static_cast<Key>(~host);
    ranges.push_back({first, static_cast<Key>(first | host), i});
  }
  if (ranges.empty()) return;
  // What holds others comes before them; of equal ones the first given comes last, and so answers.
  std::sort(ranges.begin(), ranges.end(), [](const Range<Key>& one, const Range<Key>& other) {
    if (one.first != other.first) return one.first < other.first;
    return one.last != other.last ? one.last > other.last : one.index > other.index;
  });

  const auto begin_stretch = [this](Key start, std::uint32_t answer) {
    if (!starts.empty() && starts.back() == start) {
      answers.back() = answer;
    } else if (starts.empty() || answers.back() != answer) {
      starts.push_back(start);
      answers.push_back(answer);
    }
  };
  std::vector<Range<Key>> open;  // each holds the next
  const auto close_before = [&](Key start, bool all) {
    while (!open.empty() && (all || open.back().last < start)) {
      const Key last = open.back().last;
      open.pop_back();
      if (last != kLast)
        begin_stretch(static_cast<Key>(last + 1), open.empty() ? kNone : open.back().index);
    }
  };
  begin_stretch(0, kNone);
  for (const Range<Key>& range : ranges) {
    close_before(range.first, false);
    begin_stretch(range.first, range.index);
    open.push_back(range);
  }
  close_before(0, true);
}

template <class Key>
std::uint32_t NetworkSet::Stretches<Key>::find(Key key) const {
  if (starts.empty()) return kNone;
  // The last start not above `key`; halving without a branch that depends on what is compared.
  const Key* base = starts.data();
  for (std::size_t left = starts.size(); left > 1;) {
    const std::size_t half = left / 2;
    base = base[half] <= key ? base + half : base;
    left -= half;
  }
  return answers[static_cast<std::size_t>(base - starts.data())];
}

std::uint32_t NetworkSet::find(const Address& address) const {
  if (!tables_) return kNone;
  if (address.is_v4()) return tables_->v4.find(key_of<std::uint32_t>(address));
  return address.is_v6() ? tables_->v6.find(key_of<Wide>(address)) : kNone;
}

}  // namespace poise::balance
