#include "balance/maglev.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>
#include <utility>

namespace poise::balance {
namespace {

constexpr std::uint16_t kFree = UINT16_MAX;
static_assert(kMembersMax <= kFree);

/// Entries asked before the search turns to all members: beyond a heavy member whose weight fills
/// long runs.
constexpr std::size_t kEntriesAsked = 32;

/// A member's own order of preference over all entries of the table.
class Preference {
 public:
  explicit Preference(std::uint64_t key)
      : entry_(key % kMaglevEntries), skip_(mix(key) % (kMaglevEntries - 1) + 1) {}

  std::size_t next() {
    const std::size_t entry = entry_;
    entry_ = (entry_ + skip_) % kMaglevEntries;
    return entry;
  }

 private:
  std::size_t entry_;
  std::size_t skip_;
};

/// When a member fills its next entry. In each round the heaviest one fills an entry and the others
/// as many as keep them in proportion, which comes to one every (weight_max / weight) rounds.
struct Turn {
  std::uint64_t round;
  std::uint32_t
      rank;  ///< in the order of keys: no member's place depends on where it is configured
  std::uint64_t count;

  bool operator>(const Turn& other) const {
    return round != other.round ? round > other.round : rank > other.rank;
  }
};

}  // namespace

std::vector<std::uint16_t> maglev_table(const Group& group) {
  const std::vector<std::uint64_t> keys = member_keys(group);
  std::vector<std::uint16_t> order(group.size());
  std::iota(order.begin(), order.end(), std::uint16_t{0});
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return keys[a] < keys[b]; });

  std::uint64_t weight_max = 0;
  for (const Member* member : group)
    weight_max = std::max<std::uint64_t>(weight_max, member->weight);

  std::vector<Preference> preferences;
  std::priority_queue<Turn, std::vector<Turn>, std::greater<>> turns;
  for (std::uint32_t rank = 0; rank < order.size(); ++rank) {
    preferences.emplace_back(keys[order[rank]]);
    turns.push({0, rank, 0});
  }

  std::vector<std::uint16_t> table(kMaglevEntries, kFree);
  for (std::size_t filled = 0; filled < table.size(); ++filled) {
    Turn turn = turns.top();
    turns.pop();
    std::size_t entry = preferences[turn.rank].next();
    while (table[entry] != kFree) entry = preferences[turn.rank].next();
    table[entry] = order[turn.rank];
    const std::uint64_t weight = group[order[turn.rank]]->weight;
    ++turn.count;
    turn.round = (turn.count * weight_max + weight - 1) / weight;
    turns.push(turn);
  }
  return table;
}

Maglev::Maglev(Group group) : rest_(std::move(group)), table_(maglev_table(rest_.group())) {}

const Member* Maglev::pick(Search& search) const {
  const std::size_t first = hash_ip(search.request.source) % table_.size();
  for (std::size_t i = 0; i < kEntriesAsked; ++i) {
    const Member* member = rest_.group()[table_[(first + i) % table_.size()]];
    if (search.take(*member)) return member;
  }
  return rest_.pick(search);
}

}  // namespace poise::balance
