// How many clients find themselves on another server when one of N goes, when it is back, and when
// another joins: for source_hash, maglev and the sticky table. Every source opens one session in
// each state of the pool; the figures are per cent of all sources, the worst of the N cases for
// which server goes.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "balance/pool.h"
#include "balance/sticky_table.h"

namespace poise::balance {
namespace {

using config::Scheduler;

constexpr std::uint32_t kSources = 20000;
constexpr std::chrono::hours kNow{1};

Address numbered(std::uint32_t number) {
  Address address;
  address.family = AF_INET;
  address.ip[0] = 10;
  for (std::size_t i = 0; i < 3; ++i)
    address.ip[3 - i] = static_cast<std::uint8_t>(number >> (8 * i));
  return address;
}

/// A pool of equal servers, `gone` of them down, and what its clients' sessions lead to.
class Site {
 public:
  Site(Scheduler scheduler, bool sticky, std::uint32_t servers) : sticky_(sticky) {
    spec_.scheduler = scheduler;
    spec_.state = &state_;
    for (std::uint32_t i = 0; i < servers; ++i) add_server();
  }

  void add_server() {
    Member member;
    member.id.value = static_cast<std::uint32_t>(spec_.members.size());
    member.address = numbered(0xffff00u - member.id.value);
    member.address.port = 25;
    member.state = &states_.emplace_back();
    spec_.members.push_back(member);
  }
  void set_up(std::uint32_t server, bool up) { spec_.members[server].up = up; }

  /// The server of each source's session.
  std::vector<BackendId> sessions() {
    const Pool pool(spec_);
    std::vector<BackendId> homes;
    for (std::uint32_t i = 0; i < kSources; ++i) homes.push_back(session(pool, numbered(i)));
    return homes;
  }

 private:
  BackendId session(const Pool& pool, const Address& source) {
    const auto has = sticky_ ? table_.find(source, kNow) : std::nullopt;
    if (has && spec_.members[has->value].up) return *has;
    const Pick pick = pool.pick({.source = source});
    Pool::release(*pick.member->state);
    pick.member->state->brakes.settled();
    if (!sticky_) return pick.member->id;
    return (has ? table_.move(source, *has, pick.member->id, kNow)
                : table_.insert_if_absent(source, pick.member->id, kNow))
        .backend;
  }

  bool sticky_;
  std::deque<BackendState> states_;
  PoolState state_;
  PoolSpec spec_;
  StickyTable table_{{.entries = 2 * kSources, .ttl = std::chrono::hours(12), .backends = 64}, 1};
};

struct Moves {
  double gone = 0;        ///< all that moved when a server went
  double collateral = 0;  ///< of these, those whose server had not gone
  double back = 0;        ///< moved when it was back
  double joined = 0;      ///< moved when another joined
};

double percent(std::uint32_t count) {
  return 100.0 * count / kSources;
}

Moves measure(Scheduler scheduler, bool sticky, std::uint32_t servers) {
  Moves worst;
  for (std::uint32_t gone = 0; gone < servers; ++gone) {
    Site site(scheduler, sticky, servers);
    const auto count_moves = [&site](std::vector<BackendId>& homes, BackendId except) {
      const auto now = site.sessions();
      std::uint32_t moved = 0;
      for (std::uint32_t i = 0; i < kSources; ++i)
        moved += homes[i] != now[i] && homes[i] != except;
      homes = now;
      return percent(moved);
    };
    auto homes = site.sessions();
    const auto own =
        static_cast<std::uint32_t>(std::count(homes.begin(), homes.end(), BackendId{gone}));
    site.set_up(gone, false);
    const double collateral = count_moves(homes, BackendId{gone});
    worst.collateral = std::max(worst.collateral, collateral);
    worst.gone = std::max(worst.gone, collateral + percent(own));
    site.set_up(gone, true);
    worst.back = std::max(worst.back, count_moves(homes, BackendId{}));
    site.add_server();
    worst.joined = std::max(worst.joined, count_moves(homes, BackendId{}));
  }
  return worst;
}

void print_rows(const char* name, Scheduler scheduler, bool sticky) {
  for (const std::uint32_t servers : {2u, 3u, 5u, 10u}) {
    const Moves moves = measure(scheduler, sticky, servers);
    fmt::print("| {} | {} | {:.1f} | {:.2f} | {:.1f} | {:.1f} |\n", name, servers, moves.gone,
               moves.collateral, moves.back, moves.joined);
  }
}

}  // namespace
}  // namespace poise::balance

int main() {
  using poise::config::Scheduler;
  fmt::print(
      "| % of sources | servers | moved when one goes | of others' | moved when it is back "
      "| moved when one joins |\n|---|---|---|---|---|---|\n");
  poise::balance::print_rows("source_hash", Scheduler::source_hash, false);
  poise::balance::print_rows("maglev", Scheduler::maglev, false);
  poise::balance::print_rows("sticky", Scheduler::round_robin, true);
}
