#include "control/pair_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "config/keepalived.h"
#include "pair/key.h"

namespace poise::control {

using config::LogLevel;
using pair::Role;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kTick{100}, kLook{1000};
/// Until when clients of a lost address may still have packets under way; no packet comes after.
constexpr milliseconds kLostAddress{30'000};
constexpr milliseconds kAnswer{20'000};
/// Two boxes may both be master for a moment while one takes over.
constexpr milliseconds kBothMasters{3000};
/// A pool that only the peer reaches moves the addresses after so long, and not again so soon.
constexpr milliseconds kBlind{45'000}, kBlindAgain{600'000};
/// Three probes of a server that does not answer at all, by their default timeouts, and some more.
constexpr milliseconds kHint{60'000};
constexpr milliseconds kLag{5000};
constexpr std::int64_t kSkewMs = 2000;

std::int64_t to_ms(WallTime time) {
  return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
}

std::int64_t wall_ms() {
  return to_ms(std::chrono::system_clock::now());
}

/// Tells one file from another (FNV-1a).
std::uint64_t digest_of(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char each : text) hash = (hash ^ static_cast<unsigned char>(each)) * 0x100000001b3u;
  return hash;
}

bool is_up(const BackendStatus& backend) {
  return backend.health == Health::up || backend.health == Health::recovering;
}

}  // namespace

PairWatch::~PairWatch() = default;

Result<void> PairWatch::start(const pair::Guard* guard, const std::string& version) {
  if (!ground_.config.pair) return {};
  auto key = pair::read_key(pair().key_file);
  if (!key) return key.error();
  const config::VrrpFiles files = config::VrrpFiles::of(ground_.config);
  Loop& loop = ground_.loop;
  driver_ = std::make_unique<pair::Driver>(
      pair::Driver::Options{.pair = pair(), .key = *key, .program = version, .fifo = files.fifo},
      guard, ground_.log,
      pair::Driver::Output{.event =
                               [this, &loop](pair::Event event) {
                                 loop.post([this, event = std::move(event)] { on_event(event); });
                               },
                           .link =
                               [this, &loop](bool joined, std::string trouble) {
                                 loop.post([this, joined, trouble = std::move(trouble)] {
                                   on_link(joined, trouble);
                                 });
                               },
                           .roles =
                               [this, &loop](std::vector<pair::VrrpWatch::Instance> roles) {
                                 loop.post([this, roles = std::move(roles)] { on_roles(roles); });
                               }});
  for (const config::Vrrp& each : pair().vrrp) roles_.push_back({.name = each.name});
  if (auto started = driver_->start(); !started) {
    driver_.reset();
    return started;
  }
  tick();
  look();
  return {};
}

void PairWatch::stop() {
  if (driver_) driver_->stop();
}

void PairWatch::configure(const std::string& config_text) {
  if (!on()) return;
  config_digest_ = digest_of(config_text);
  driver_->configure(pair().vrrp);
}

void PairWatch::record(const std::string& kind, const std::string& object,
                       const std::string& what) {
  ground_.log.always("{} {}: {}", kind, object, what);
  ground_.events.add({.kind = kind, .object = object, .what = what, .reason = ""});
}

/// A link that comes and goes is the network's doing: bounded in the log.
void PairWatch::record_link(LogLevel level, const std::string& what) {
  ground_.log.limited(kLogLink, level, "pair {}: {}", pair().peer().name, what);
  ground_.events.add({.kind = "pair", .object = pair().peer().name, .what = what, .reason = ""});
}

// ---- may this box have the addresses

void PairWatch::ready() {
  ready_ = true;
  update_serves();
}

void PairWatch::set_fault(const std::string& kind, const std::string& why) {
  if (!on() || !faults_.emplace(kind, why).second) return;
  record("vrrp", pair().self().name, "may not have the addresses: " + why);
  update_serves();
}

void PairWatch::clear_fault(const std::string& kind) {
  if (!on() || faults_.erase(kind) == 0) return;
  if (faults_.empty()) record("vrrp", pair().self().name, "may have the addresses again");
  update_serves();
}

void PairWatch::update_serves() {
  if (on()) driver_->set_serves(ready_ && faults_.empty());
}

void PairWatch::demote(const std::string& kind, const std::string& why,
                       std::function<void()> then) {
  if (!on()) return then();
  set_fault(kind, why);
  milliseconds adverts{};
  for (const config::Vrrp& each : pair().vrrp) adverts = std::max(adverts, each.advert_interval);
  driver_->look_every(milliseconds(20));
  await_gone(Clock::now() + 3 * adverts + milliseconds(2000), std::move(then));
}

void PairWatch::await_gone(Clock::time_point deadline, std::function<void()> then) {
  if (role() != Role::master || Clock::now() > deadline) {
    driver_->look_every(kLook);
    return then();
  }
  ground_.loop.after(milliseconds(20), [this, deadline, then = std::move(then)]() mutable {
    await_gone(deadline, std::move(then));
  });
}

void PairWatch::switch_over(const std::string& why, std::function<void(Result<void>)> answer) {
  demote("switch", why, [this, answer = std::move(answer)]() mutable {
    if (role() == Role::master) {
      clear_fault("switch");
      return answer(Error{"",
                          "keepalived does not let go of the addresses: is it running with "
                          "the file that `poisectl vrrp-config` makes?"});
    }
    await_peer(Clock::now() + milliseconds(10'000), std::move(answer));
  });
}

void PairWatch::await_peer(Clock::time_point deadline, std::function<void(Result<void>)> answer) {
  const bool taken = joined_ && peer_ && peer_->role == Role::master;
  if (taken || Clock::now() > deadline) {
    clear_fault("switch");
    if (taken) return answer({});
    return answer(
        Error{"", fmt::format("{} did not take the addresses: is keepalived running there?",
                              pair().peer().name)});
  }
  ground_.loop.after(milliseconds(50), [this, deadline, answer = std::move(answer)]() mutable {
    await_peer(deadline, std::move(answer));
  });
}

// ---- who has them

void PairWatch::on_roles(std::vector<pair::VrrpWatch::Instance> roles) {
  const Role before = role();
  for (const auto& now : roles) {
    const auto old = std::find_if(roles_.begin(), roles_.end(),
                                  [&now](const auto& each) { return each.name == now.name; });
    const Role was = old == roles_.end() ? Role::unknown : old->role;
    if (was == now.role) continue;
    const std::uint64_t turn = turns_[now.name] += now.role == Role::master ? 1 : 0;
    record("vrrp", now.name, fmt::format("{} -> {}", name_of(was), name_of(now.role)));
    if (was == Role::master)
      ground_.loop.after(kLostAddress,
                         [this, name = now.name, turn] { close_sessions_of(name, turn); });
  }
  roles_ = std::move(roles);
  const Role now = role();
  if (now == before) return;
  if (now == Role::master) hint_at_promotion();
  ground_.role_changed();
}

std::set<Address> PairWatch::elsewhere() const {
  std::set<Address> addresses;
  if (!on()) return addresses;
  for (const config::Vrrp& each : pair().vrrp) {
    const bool here = std::any_of(roles_.begin(), roles_.end(), [&each](const auto& instance) {
      return instance.name == each.name && instance.role == Role::master;
    });
    if (here) continue;
    for (const config::VirtualAddress& address : each.virtual_addresses)
      addresses.insert(address.address);
  }
  return addresses;
}

/// No packet of theirs will reach us again; they hold places at the servers.
void PairWatch::close_sessions_of(const std::string& instance, std::uint64_t turn) {
  if (turns_[instance] != turn) return;
  std::vector<Address> lost;
  for (const config::Vrrp& each : pair().vrrp)
    if (each.name == instance)
      for (const config::VirtualAddress& address : each.virtual_addresses)
        lost.push_back(address.address);
  ground_.workers.post(proxy::Visit{[lost](proxy::Core& core, std::span<proxy::Session> sessions) {
    for (proxy::Session& session : sessions) {
      if (session.state() == SessionState::free || session.state() == SessionState::closing)
        continue;
      Address vip = session.look(core).vip;
      vip.port = 0;
      if (std::find(lost.begin(), lost.end(), vip) != lost.end())
        session.close(core, CloseReason::client_gone);
    }
  }});
}

/// What the box that had the addresses last said of servers is younger than our own seldom probes.
/// But not of a pool of which it reached nobody: that may be why the addresses came here.
void PairWatch::hint_at_promotion() {
  const auto up_there = [this](const BackendStatus& each) {
    const auto said = peer_verdicts_.find(each.path());
    return said == peer_verdicts_.end() || said->second;
  };
  std::set<std::string> reached;
  for (const BackendStatus& each : std::as_const(ground_.world).backends().all())
    if (each.configured && is_up(each) && up_there(each)) reached.insert(each.pool_name);
  bool any = false;
  for (BackendStatus& each : ground_.world.backends().all()) {
    if (!each.configured) continue;
    ground_.health.monitor().probe_soon(each.id);
    if (up_there(each) || !is_up(each) || !reached.contains(each.pool_name)) continue;
    each.hinted_down = any = true;
  }
  if (!any) return;
  ground_.publish();
  end_hints(std::chrono::system_clock::now(), Clock::now() + kHint);
}

/// Our own word takes a hint's place: a verdict (HealthWatch::on_health), or a good probe begun
/// since.
void PairWatch::end_hints(WallTime promoted, Clock::time_point deadline) {
  bool ended = false, left = false;
  for (BackendStatus& each : ground_.world.backends().all()) {
    if (!each.hinted_down) continue;
    const auto seen = ground_.health.monitor().last(each.id);
    const bool good =
        seen && seen->outcome == ProbeOutcome::good && seen->at - seen->took >= promoted;
    if (good || Clock::now() >= deadline) {
      each.hinted_down = false;
      ended = true;
    } else {
      left = true;
    }
  }
  if (ended) ground_.publish();
  if (left) ground_.loop.after(kTick, [=, this] { end_hints(promoted, deadline); });
}

// ---- the link

void PairWatch::on_link(bool joined, const std::string& trouble) {
  if (joined == joined_) {
    trouble_ = trouble;
    return;
  }
  joined_ = joined;
  trouble_ = trouble;
  link_since_ = Clock::now();
  caught_up_ = link_since_;
  if (!joined) {
    record_link(LogLevel::warning, "the link is lost: " + trouble);
    peer_.reset();
    skewed_ = 0;
    for (auto& [id, asked] : std::exchange(asked_, {}))
      asked(Error{"", fmt::format("the link to {} is lost", pair().peer().name)});
    ground_.link_lost();
  }
}

void PairWatch::on_event(pair::Event event) {
  if (auto* joined = std::get_if<pair::Joined>(&event)) {
    peer_program_ = joined->peer.program;
    version_ = joined->version;
    record_link(LogLevel::info,
                fmt::format("linked; it runs poise {}{}", peer_program_,
                            joined->wants_everything ? ", and is told everything" : ""));
    if (joined->forgot) {
      peer_snapshot_ = false;
      peer_verdicts_.clear();
    }
    if (joined->wants_everything) {
      for (const auto& [name, state] : ground_.states.all()) pending_names_.insert(name);
      for (const auto& [network, ban] : ground_.states.bans().all()) pending_bans_.insert(network);
      for (const auto& [network, ban] : ground_.states.bans().lifted())
        pending_bans_.insert(network);
      told_verdicts_.clear();
      cursor_ = {};
      for (const config::Pool& pool : ground_.config.pools)
        if (auto* table = ground_.world.sticky(pool.name)) table->all_changed();
      snapshot_due_ = true;
    }
    return;
  }
  if (auto* ping = std::get_if<pair::Ping>(&event)) return on_ping(*ping);
  if (auto* change = std::get_if<pair::Change>(&event)) return on_change(std::move(*change));
  if (auto* answer = std::get_if<pair::Answer>(&event)) {
    auto asked = asked_.extract(answer->id);
    if (asked.empty()) return;
    return asked.mapped()(answer->good ? Result<std::string>(std::move(answer->text))
                                       : Error{"", std::move(answer->text)});
  }
  // Of a link that is lost by now: its other end has given up.
  if (auto* request = std::get_if<pair::Request>(&event); request != nullptr && joined_)
    ground_.request(*request, [this, id = request->id](bool good, std::string text) {
      driver_->send(pair::Answer{.id = id, .good = good, .text = std::move(text)});
    });
}

void PairWatch::ask(std::string verb, std::string text,
                    std::function<void(Result<std::string>)> answer) {
  if (!joined_)
    return answer(
        Error{"", fmt::format("there is no link to {}: {}", pair().peer().name, trouble_)});
  const std::uint32_t id = ++last_id_;
  asked_.emplace(id, std::move(answer));
  driver_->send(pair::Request{.id = id, .verb = std::move(verb), .text = std::move(text)});
  ground_.loop.after(kAnswer, [this, id] {
    auto asked = asked_.extract(id);
    if (!asked.empty())
      asked.mapped()(Error{"", fmt::format("{} does not answer", pair().peer().name)});
  });
}

void PairWatch::on_ping(const pair::Ping& ping) {
  peer_ = ping;
  skew_ms_ = ping.wall_ms - wall_ms();
  if (std::abs(skew_ms_) <= kSkewMs) {
    skewed_ = 0;
  } else if (++skewed_ == 3) {
    ground_.log.limited(kLogPair, LogLevel::warning,
                        "pair: the clock of {} is {:.1f} s {} ours: of two decisions the wrong one "
                        "may win; set both by NTP",
                        pair().peer().name, static_cast<double>(std::abs(skew_ms_)) / 1000,
                        skew_ms_ > 0 ? "ahead of" : "behind");
  }
}

void PairWatch::on_change(pair::Change change) {
  if (auto* batch = std::get_if<pair::StickyBatch>(&change)) return on_sticky(*batch);
  if (auto* decision = std::get_if<pair::Decision>(&change)) return ground_.decide(*decision);
  if (auto* ban = std::get_if<pair::BanChange>(&change)) return ground_.ban(*ban);
  if (auto* verdict = std::get_if<pair::Verdict>(&change)) return on_verdict(*verdict);
  if (std::holds_alternative<pair::SnapshotEnd>(change)) peer_snapshot_ = true;
}

void PairWatch::on_sticky(const pair::StickyBatch& batch) {
  balance::StickyTable* const table = ground_.world.sticky(batch.pool);
  if (table == nullptr) return;
  std::vector<BackendId> ids;
  for (const std::string& name : batch.backends) {
    const BackendStatus* backend = ground_.world.backends().find(batch.pool + "/" + name);
    ids.push_back(backend != nullptr ? backend->id : BackendId{});
  }
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  for (const pair::StickyBatch::Entry& each : batch.entries) {
    const BackendId id = ids[each.backend];
    if (!id) continue;
    table->adopt(
        {.source = each.source, .backend = id, .idle = std::chrono::seconds(each.idle_seconds)},
        now);
    ++sticky_heard_;
  }
}

/// Until our own first verdict the peer's is better than none.
void PairWatch::on_verdict(const pair::Verdict& verdict) {
  BackendStatus* const backend = ground_.world.backends().find(verdict.backend);
  if (backend == nullptr) return;
  peer_verdicts_[verdict.backend] = verdict.up;
  if (backend->health != Health::checking || backend->hinted_down == !verdict.up) return;
  backend->hinted_down = !verdict.up;
  ground_.publish();
}

// ---- what the peer is told

void PairWatch::tick() {
  if (joined_) tell();
  ground_.loop.after(kTick, [this] { tick(); });
}

void PairWatch::tell() {
  for (const config::Pool& pool : ground_.config.pools)
    if (auto* table = ground_.world.sticky(pool.name)) table->remember_changes(true);
  while (!pending_names_.empty() && driver_->room()) {
    const std::string name = *pending_names_.begin();
    pending_names_.erase(pending_names_.begin());
    const OperatorStates::State* state = ground_.states.find(name);
    if (state == nullptr) continue;
    pair::Decision decision{.name = name,
                            .admin = static_cast<std::uint8_t>(state->admin.admin),
                            .changed_ms = to_ms(state->changed),
                            .since_ms = to_ms(state->admin.since),
                            .user = state->admin.user,
                            .reason = state->admin.reason,
                            .weight = {},
                            .weight_configured = state->weight_configured};
    if (state->weight) decision.weight = *state->weight;
    driver_->push(std::move(decision));
  }
  while (!pending_bans_.empty() && driver_->room()) {
    const Network network = *pending_bans_.begin();
    pending_bans_.erase(pending_bans_.begin());
    const Bans& bans = ground_.states.bans();
    const auto banned = bans.all().find(network);
    const bool is = banned != bans.all().end();
    const auto at = is ? banned : bans.lifted().find(network);
    if (!is && at == bans.lifted().end()) continue;
    pair::BanChange change{.network = network,
                           .banned = is,
                           .since_ms = to_ms(at->second.since),
                           .until_ms = {},
                           .user = at->second.user,
                           .reason = at->second.reason};
    if (at->second.until) change.until_ms = to_ms(*at->second.until);
    driver_->push(std::move(change));
  }
  for (const BackendStatus& each : std::as_const(ground_.world).backends().all()) {
    if (!each.configured || each.health == Health::checking || !driver_->room()) continue;
    const auto [told, fresh] = told_verdicts_.try_emplace(each.id.value, is_up(each));
    if (!fresh && told->second == is_up(each)) continue;
    told->second = is_up(each);
    driver_->push(pair::Verdict{.backend = each.path(), .up = told->second});
  }
  const bool all = tell_sticky() && pending_names_.empty() && pending_bans_.empty();
  if (all && snapshot_due_) {
    snapshot_due_ = false;
    driver_->push(pair::SnapshotEnd{});
    snapshot_number_ = driver_->figures().pushed;
  }
  if (all && driver_->figures().unacknowledged == 0) caught_up_ = Clock::now();
}

/// One shard after the other, from where the last call ended; true: all of them were told.
bool PairWatch::tell_sticky() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  for (; cursor_.pool < ground_.config.pools.size(); ++cursor_.pool, cursor_.shard = 0) {
    const std::string& pool = ground_.config.pools[cursor_.pool].name;
    balance::StickyTable* const table = ground_.world.sticky(pool);
    if (table == nullptr) continue;
    for (; cursor_.shard < balance::StickyTable::kShards; ++cursor_.shard) {
      if (!driver_->room()) return false;
      table->collect(cursor_.shard, now, collected_);
      for (std::size_t from = 0; from < collected_.size(); from += pair::kBatchMax) {
        pair::StickyBatch batch;
        batch.pool = pool;
        std::map<std::uint32_t, std::uint16_t> index;
        const std::size_t end = std::min(from + pair::kBatchMax, collected_.size());
        for (std::size_t i = from; i < end; ++i) {
          const balance::StickyEntry& entry = collected_[i];
          const auto [at, fresh] = index.try_emplace(
              entry.backend.value, static_cast<std::uint16_t>(batch.backends.size()));
          if (fresh)
            batch.backends.push_back(
                std::as_const(ground_.world).backends().at(entry.backend).name);
          batch.entries.push_back({.source = entry.source,
                                   .backend = at->second,
                                   .idle_seconds = static_cast<std::uint32_t>(entry.idle.count())});
        }
        sticky_told_ += batch.entries.size();
        driver_->push(std::move(batch));
      }
    }
  }
  cursor_ = {};
  return true;
}

bool PairWatch::in_sync() const {
  return joined_ && !snapshot_due_ && peer_snapshot_ &&
         driver_->figures().acknowledged >= snapshot_number_ && Clock::now() - caught_up_ < kLag;
}

// ---- what is seen of both

void PairWatch::look() {
  pair::Ping ping{.wall_ms = 0,
                  .role = role(),
                  .priority = static_cast<std::uint8_t>(pair().self().priority),
                  .config = config_digest_};
  driver_->set_ping(ping);
  look_at_masters();
  look_at_pools();
  ground_.loop.after(milliseconds(200), [this] { look(); });
}

/// VRRP's words don't get through, but the link's do: the box with less priority gives way as long
/// as the other one has the addresses.
void PairWatch::look_at_masters() {
  const auto now = Clock::now();
  const bool peer_has = peer_ && peer_->role == Role::master;
  if (!peer_has && now - link_since_ > kBothMasters) clear_fault("both");
  if (!peer_has || role() != Role::master) {
    both_since_ = now;
    return;
  }
  if (now - both_since_ < kBothMasters) return;
  ground_.log.limited(kLogPair, LogLevel::error,
                      "pair: both nodes have the addresses: they do not hear each other's VRRP "
                      "(protocol 112); the one with less priority gives way");
  if (pair().self().priority < pair().peer().priority)
    set_fault("both", fmt::format("{} has them too, and more priority", pair().peer().name));
}

/// Only what the other box could do better is a reason to move: servers that neither reaches are
/// refused politely where the addresses are.
void PairWatch::look_at_pools() {
  const auto now = Clock::now();
  std::string blind;
  if (in_sync() && role() == Role::master && peer_ && peer_->role == Role::backup) {
    for (const config::Pool& pool : ground_.config.pools) {
      bool ours = false, theirs = false;
      for (const BackendStatus& each : std::as_const(ground_.world).backends().all()) {
        if (!each.configured || each.pool_name != pool.name || each.admin.admin != Admin::enabled)
          continue;
        ours = ours || each.health != Health::down;
        const auto said = peer_verdicts_.find(each.path());
        theirs = theirs || (said != peer_verdicts_.end() && said->second);
      }
      if (!ours && theirs) blind = pool.name;
    }
  }
  if (blind.empty()) {
    blind_since_ = now;
    return;
  }
  if (now - blind_since_ < kBlind || (moved_ != Clock::time_point{} && now - moved_ < kBlindAgain))
    return;
  moved_ = now;
  switch_over(fmt::format("{} reaches pool {} and we don't", pair().peer().name, blind),
              [](const Result<void>&) {});
}

std::optional<PairView> PairWatch::view() const {
  if (!on()) return std::nullopt;
  PairView view;
  view.node = pair().self().name;
  view.role = name_of(role());
  for (const auto& each : roles_)
    view.instances.push_back({each.name, std::string(name_of(each.role))});
  for (const auto& [kind, why] : faults_) view.faults.push_back(why);
  view.serves = ready_ && faults_.empty();
  view.peer = pair().peer().name;
  view.peer_address = pair().peer().address;
  view.linked = joined_;
  view.trouble = trouble_;
  view.in_sync = in_sync();
  view.peer_role = peer_ ? name_of(peer_->role) : name_of(Role::unknown);
  view.peer_program = joined_ ? peer_program_ : "";
  view.version = version_;
  view.same_config = peer_ && peer_->config == config_digest_;
  view.skew_seconds = skewed_ >= 3 ? static_cast<double>(skew_ms_) / 1000 : 0;
  view.since = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - link_since_);
  const pair::Driver::Figures figures = driver_->figures();
  view.unacknowledged = figures.unacknowledged + pending_names_.size() + pending_bans_.size();
  view.sticky_told = sticky_told_;
  view.sticky_heard = sticky_heard_;
  view.both_masters = role() == Role::master && peer_ && peer_->role == Role::master &&
                      Clock::now() - both_since_ >= kBothMasters;
  return view;
}

}  // namespace poise::control
