#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "config/difference.h"
#include "config/load.h"
#include "control/commands.h"
#include "net/replace_file.h"
#include "poise/number.h"

/// The commands about the pair, and what its other box asks.
namespace poise::control {

using config::LogLevel;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kPublishLater{50};
/// Names that the peer may make us remember although no file of ours has them.
constexpr std::size_t kNamesMax = 20'000;
/// What a message takes, with room for what stands beside it.
constexpr std::size_t kPushMax = pair::kFrameMax - 65536;

WallTime at_ms(std::int64_t ms) {
  return WallTime(milliseconds(ms));
}

std::string candidate_of(const std::string& path) {
  return path + ".pushed";
}
std::string previous_of(const std::string& path) {
  return path + ".before-push";
}

/// A configuration may hold passwords: another one is readable by whom the one in force is.
Result<void> write_beside(const std::string& config_path, const std::string& path,
                          const std::string& text) {
  struct stat in_force {};
  const bool known = ::stat(config_path.c_str(), &in_force) == 0;
  auto written = net::replace_file(
      path, text, {.mode = known ? in_force.st_mode & 0777 : 0600, .durable = true});
  if (written) return {};
  return Error{written.error().text(),
               "poised needs to write to this folder, as docs/pair.md says"};
}

/// Of one decision, to be compared.
std::string words_of(const OperatorStates::State& state) {
  const Admin admin = state.admin.admin == Admin::draining ? Admin::disabled : state.admin.admin;
  return fmt::format("{}{}", admin == Admin::enabled ? "enabled" : "out of service",
                     state.weight ? fmt::format(", weight {}", *state.weight) : "");
}

/// Decisions and bans by name, without those that say nothing.
std::map<std::string, std::string> decisions_of(const OperatorStates& states) {
  std::map<std::string, std::string> all;
  for (const auto& [name, state] : states.all())
    if (const std::string words = words_of(state); words != "enabled") all[name] = words;
  for (const auto& [network, ban] : states.bans().all()) all[network.text()] = "banned";
  return all;
}

std::vector<std::string> lines_of(const std::vector<std::string>& lines,
                                  const std::string& before) {
  std::vector<std::string> out;
  for (const std::string& each : lines) out.push_back(before + each);
  return out;
}

}  // namespace

Result<void> Commands::pair_needed() const {
  if (ground_.pair.on()) return {};
  return Error{"", "there is no \"pair\" in the configuration that runs"};
}

Result<PairView> Commands::pair_status() const {
  if (auto needed = pair_needed(); !needed) return needed.error();
  return *ground_.pair.view();
}

// ---- what the peer decided

void Commands::publish_later() {
  if (std::exchange(publish_due_, true)) return;
  ground_.loop.after(kPublishLater, [this] {
    publish_due_ = false;
    publish_bans();
  });
}

void Commands::apply(const pair::Decision& decision) {
  const WallTime changed = at_ms(decision.changed_ms), since = at_ms(decision.since_ms);
  const auto admin = static_cast<Admin>(
      std::min<std::size_t>(decision.admin, static_cast<std::size_t>(Admin::disabled)));
  const OperatorStates::State* own = ground_.states.find(decision.name);
  // The later one wins; of two at the same time the more cautious one.
  if (own != nullptr &&
      (own->changed > changed || (own->changed == changed && own->admin.admin >= admin)))
    return;
  if (own == nullptr && ground_.states.all().size() >= kNamesMax)
    return ground_.log.limited(kLogPeer, LogLevel::warning,
                               "pair: {} is not remembered: there are {} decisions already",
                               decision.name, kNamesMax);
  OperatorStates::State next{
      .admin = {.admin = admin, .reason = decision.reason, .user = decision.user, .since = since},
      .weight = {},
      .weight_configured = decision.weight_configured,
      .changed = changed};
  if (decision.weight) next.weight = *decision.weight;
  const By by{.user = fmt::format("{} at {}", decision.user.empty() ? "?" : decision.user,
                                  ground_.config.pair->peer().name),
              .reason = decision.reason};
  // A drain that has come to its end here is the decision that it began with.
  const bool drained = own != nullptr && own->admin.admin == Admin::disabled &&
                       admin == Admin::draining && own->admin.reason == decision.reason;
  const bool same =
      drained || (own != nullptr ? own->admin.admin == admin : admin == Admin::enabled);
  if (drained) next.admin.admin = Admin::disabled;
  if (BackendStatus* backend = ground_.world.backends().find(decision.name)) {
    if (next.weight_configured == backend->weight_configured) backend->weight_set = next.weight;
    if (!same) set_backend(backend->id, admin, {}, by, since);
    next.admin.admin = same ? next.admin.admin : backend->admin.admin;
  } else if (!same && ground_.world.service_ids().contains(decision.name)) {
    set_service(decision.name, admin, {}, by, since);
  }
  ground_.states.set(decision.name, std::move(next));
  publish_later();
}

void Commands::apply(const pair::BanChange& change) {
  Bans& bans = ground_.states.bans();
  const WallTime since = at_ms(change.since_ms);
  for (const auto* known : {&bans.all(), &bans.lifted()})
    if (const auto at = known->find(change.network);
        at != known->end() && at->second.since >= since)
      return;
  Ban ban{.network = change.network,
          .since = since,
          .until = {},
          .reason = change.reason,
          .user = change.user};
  const By by{.user = fmt::format("{} at {}", change.user.empty() ? "?" : change.user,
                                  ground_.config.pair->peer().name),
              .reason = change.reason};
  if (!change.banned) {
    const bool was = bans.remove(change.network);
    bans.remember_lifted(std::move(ban));
    if (!was) return;
    record("unban", change.network.text(), "served again", by);
    return publish_later();
  }
  if (change.until_ms) ban.until = at_ms(*change.until_ms);
  if (ban.until && *ban.until <= std::chrono::system_clock::now()) return;
  if (auto added = bans.add(std::move(ban)); !added)
    return ground_.log.limited(kLogPeer, LogLevel::warning, "pair: {} is not banned here: {}",
                               change.network.text(), added.error().text());
  record("ban", change.network.text(), "banned", by);
  publish_later();
}

// ---- what it asks

void Commands::peer_asks(const pair::Request& request,
                         std::function<void(bool, std::string)> answer) {
  if (request.verb == "state") {
    // The file's length, the file, and a line a decision.
    const std::string file = config::file_text(ground_.config_path).value_or("");
    std::string text = fmt::format("{}\n{}", file.size(), file);
    for (const auto& [name, words] : decisions_of(ground_.states))
      text += fmt::format("{}\t{}\n", name, words);
    if (text.size() > kPushMax) return answer(false, "the configuration is too large for the link");
    return answer(true, std::move(text));
  }
  if (request.verb == "take") return take_candidate(request.text, answer);
  if (request.verb == "commit") return commit_candidate(answer);
  if (request.verb == "keep") return keep_candidate(answer);
  if (request.verb == "revert") return revert_candidate(answer);
  answer(false, fmt::format("poise {} does not know \"{}\"", ground_.version, request.verb));
}

void Commands::take_candidate(const std::string& text,
                              const std::function<void(bool, std::string)>& answer) {
  if (pushing_ || pushed_ != Pushed::nothing || ground_.stopping())
    return answer(false, "busy with another change");
  const std::string candidate = candidate_of(ground_.config_path);
  if (auto written = write_beside(ground_.config_path, candidate, text); !written)
    return answer(false, written.error().text());
  try_reload(candidate, true, {}, [candidate, answer](const ReloadView& view) {
    if (view.done) return answer(true, fmt::format("{}", fmt::join(view.changes, "\n")));
    std::remove(candidate.c_str());
    answer(false, fmt::format("{}", fmt::join(view.errors, "\n")));
  });
}

/// From here on the peer says "keep" once it uses the file too, or "revert"; when it is gone before
/// either, this box goes back by itself: peer_lost(), or undo_unfinished_push() at the next start.
void Commands::commit_candidate(const std::function<void(bool, std::string)>& answer) {
  const std::string& path = ground_.config_path;
  const auto before = config::file_text(path);
  if (!before) return answer(false, path + " cannot be read");
  if (auto kept = write_beside(path, previous_of(path), *before); !kept)
    return answer(false, kept.error().text());
  if (std::rename(candidate_of(path).c_str(), path.c_str()) != 0)
    return answer(false, fmt::format("{}: {}", path, std::strerror(errno)));
  const By by{.user = ground_.config.pair->peer().name, .reason = "pair push"};
  pushed_ = Pushed::trying;
  unwanted_ = false;
  reload(false, by, [this, answer](const ReloadView& view) {
    if (view.done) {
      pushed_ = Pushed::unconfirmed;
      if (!unwanted_) return answer(true, "");
      return revert_candidate([answer](bool, const std::string&) { answer(false, "taken back"); });
    }
    pushed_ = Pushed::nothing;
    std::rename(previous_of(ground_.config_path).c_str(), ground_.config_path.c_str());
    reload_error_.clear();
    answer(false, fmt::format("{}", fmt::join(view.errors, "\n")));
  });
}

void Commands::keep_candidate(const std::function<void(bool, std::string)>& answer) {
  if (pushed_ != Pushed::unconfirmed) return answer(false, "has gone back to its own file");
  pushed_ = Pushed::nothing;
  std::remove(previous_of(ground_.config_path).c_str());
  answer(true, "");
}

void Commands::peer_lost() {
  if (pushed_ != Pushed::nothing) revert_candidate([](bool, const std::string&) {});
}

void Commands::revert_candidate(const std::function<void(bool, std::string)>& answer) {
  if (pushed_ == Pushed::trying) unwanted_ = true;
  if (pushed_ != Pushed::unconfirmed) return answer(true, "");
  pushed_ = Pushed::nothing;
  const std::string& path = ground_.config_path;
  if (std::rename(previous_of(path).c_str(), path.c_str()) != 0)
    return answer(false, fmt::format("{}: {}", path, std::strerror(errno)));
  reload(false, {.user = ground_.config.pair->peer().name, .reason = "pair push taken back"},
         [answer](const ReloadView& view) {
           answer(view.done, fmt::format("{}", fmt::join(view.errors, "\n")));
         });
}

std::string Commands::undo_unfinished_push(const std::string& config_path) {
  const std::string previous = previous_of(config_path), candidate = candidate_of(config_path);
  std::error_code unknown;
  if (!std::filesystem::exists(previous, unknown)) return "";
  const std::string what = "poised ended while the pair's other box pushed a configuration: ";
  if (const auto pushed = config::file_text(config_path);
      pushed && write_beside(config_path, candidate, *pushed))
    if (std::rename(previous.c_str(), config_path.c_str()) == 0)
      return fmt::format("{}{} is the one before again, and {} what was pushed", what, config_path,
                         candidate);
  return fmt::format(
      "{}{} may be the pushed one and {} the one before; it can't be put right here "
      "({}): keep the one that is wanted as {}, and remove the other",
      what, config_path, previous, std::strerror(errno), config_path);
}

// ---- what operators ask

void Commands::pair_diff(std::function<void(Result<PairDifference>)> answer) {
  if (auto needed = pair_needed(); !needed) return answer(needed.error());
  ground_.pair.ask("state", "", [this, answer = std::move(answer)](Result<std::string> said) {
    if (!said) return answer(said.error());
    const std::string peer = ground_.config.pair->peer().name;
    const std::size_t line = said->find('\n');
    const std::size_t size =
        parse_number<std::size_t>(std::string_view(*said).substr(0, line)).value_or(said->size());
    if (size > said->size() - line - 1) return answer(Error{"", peer + " answers nonsense"});
    // As this box would read it: what is each node's own is no difference.
    config::LoadOptions options;
    options.node = ground_.config.pair->self().name;
    const config::LoadResult here = config::load_file(ground_.config_path, options);
    options.file = peer + ":poise.json";
    const config::LoadResult there = config::load_text(said->substr(line + 1, size), options);
    if (!here.config) return answer(Error{"", here.errors.front().text()});
    if (!there.config) return answer(Error{"", there.errors.front().text()});
    PairDifference difference;
    difference.config = config::differences(*here.config, *there.config);
    std::map<std::string, std::string> ours = decisions_of(ground_.states), theirs;
    for (std::size_t at = line + 1 + size; at < said->size();) {
      const std::size_t end = std::min(said->find('\n', at), said->size());
      const std::size_t tab = said->find('\t', at);
      if (tab < end) theirs[said->substr(at, tab - at)] = said->substr(tab + 1, end - tab - 1);
      at = end + 1;
    }
    std::set<std::string> names;
    for (const auto* each : {&ours, &theirs})
      for (const auto& [key, words] : *each) names.insert(key);
    for (const std::string& each : names)
      if (ours[each] != theirs[each])
        difference.state.push_back(fmt::format("{}: {} -> {}", each,
                                               ours[each].empty() ? "nothing" : ours[each],
                                               theirs[each].empty() ? "nothing" : theirs[each]));
    answer(std::move(difference));
  });
}

void Commands::pair_push(const By& by, std::function<void(Said)> answer) {
  if (auto needed = pair_needed(); !needed) return answer(needed.error());
  if (pushing_ || pushed_ != Pushed::nothing || ground_.stopping())
    return answer(Error{"", "busy with another change"});
  const auto text = config::file_text(ground_.config_path);
  if (!text) return answer(Error{ground_.config_path, "cannot be read"});
  if (text->size() > kPushMax)
    return answer(Error{ground_.config_path, "is too large for the link: copy it by hand"});
  const std::string here = ground_.config.pair->self().name,
                    there = ground_.config.pair->peer().name;
  pushing_ = true;
  answer = [this, answer = std::move(answer)](Said said) {
    pushing_ = false;
    answer(std::move(said));
  };
  const auto refused = [](const std::string& node, const std::string& why) {
    return Error{"", fmt::format("nothing changed on either box: {}: {}", node, why)};
  };
  const auto confirm = [this, by, here, there, answer](std::vector<std::string> said) {
    ground_.pair.ask("keep", "", [=, this](const Result<std::string>& kept) mutable {
      if (!kept)
        return answer(Error{"", fmt::format("{} uses the configuration, and {} did not confirm "
                                            "that it does ({}): see `poisectl pair diff` when it "
                                            "is back, and push again",
                                            here, there, kept.error().text())});
      record("pair_push", there, "the configuration is the same on both boxes", by);
      said.push_back("the configuration runs on both boxes");
      answer(std::move(said));
    });
  };
  const auto commit = [this, by, here, there, refused, confirm,
                       answer](const std::string& changes) {
    ground_.pair.ask("commit", "", [=, this](const Result<std::string>& committed) {
      if (!committed) {
        // It may have come to use it and be too late to say so.
        ground_.pair.ask("revert", "", [](const Result<std::string>&) {});
        return answer(refused(there, committed.error().text()));
      }
      reload(false, by, [=, this](const ReloadView& view) {
        if (view.done) {
          auto said = lines_of(view.changes, here + ": ");
          if (!changes.empty()) said.push_back(there + ": " + changes);
          return confirm(std::move(said));
        }
        const std::string why = fmt::format("{}", fmt::join(view.errors, "; "));
        ground_.pair.ask("revert", "", [=](const Result<std::string>& reverted) {
          answer(reverted ? refused(here, why)
                          : Error{"", fmt::format("{} can't use it ({}), and {} could not go back: "
                                                  "{}; look at both boxes",
                                                  here, why, there, reverted.error().text())});
        });
      });
    });
  };
  try_reload(ground_.config_path, true, by, [=, this](const ReloadView& view) {
    if (!view.done) return answer(refused(here, fmt::format("{}", fmt::join(view.errors, "\n"))));
    ground_.pair.ask("take", *text, [=](const Result<std::string>& taken) {
      if (!taken) return answer(refused(there, taken.error().text()));
      commit(*taken);
    });
  });
}

void Commands::pair_switch(bool dry_run, const By& by, std::function<void(Said)> answer) {
  if (auto needed = pair_needed(); !needed) return answer(needed.error());
  const PairView view = *ground_.pair.view();
  if (view.role != "master")
    return answer(
        Error{"", fmt::format("this box ({}) has no addresses to give away: it is {}, and "
                              "{} is {}",
                              view.node, view.role, view.peer, view.peer_role)});
  if (!view.linked || view.peer_role != "backup")
    return answer(Error{
        "", view.linked
                ? fmt::format("{} can't take the addresses: it is {}", view.peer, view.peer_role)
                : fmt::format("there is no link to {}: {}", view.peer, view.trouble)});
  const config::Pair& pair = *ground_.config.pair;
  for (const config::Vrrp& each : pair.vrrp)
    if (each.preempt && pair.self().priority > pair.peer().priority)
      return answer(
          Error{"", fmt::format("{} has \"preempt\" and this box the higher priority: the "
                                "addresses would come back at once",
                                each.name)});
  std::uint32_t cut = 0;
  for (const config::Service& each : ground_.config.services)
    if (each.forwarding == config::Forwarding::proxy)
      cut += sessions_of(ground_.world.service(each.name));
  const std::string cost =
      fmt::format("{} proxied sessions end; their clients connect again, to {}{}", cut, view.peer,
                  view.in_sync ? "" : ", which does not know all that this box knows");
  if (dry_run) return answer(std::vector<std::string>{cost});
  record("pair_switch", view.peer, cost, by);
  ground_.pair.switch_over(fmt::format("switched to {}", view.peer),
                           [cost, peer = view.peer, answer](const Result<void>& done) {
                             if (!done) return answer(done.error());
                             answer(std::vector<std::string>{cost, peer + " has the addresses"});
                           });
}

}  // namespace poise::control
