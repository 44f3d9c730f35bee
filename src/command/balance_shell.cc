#include "command/balance_shell.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <sstream>
#include <string_view>

#include "poise/address.h"
#include "poise/number.h"

namespace poise {

using control::Admin;
using control::Commands;

namespace {

struct Word {
  std::string_view name;
  bool changes;
};

/// In the order in which balance looks for what a shortened word means.
constexpr std::array<Word, 17> kWords{{{"quit", false},
                                       {"show", false},
                                       {"help", false},
                                       {"?", false},
                                       {"kill", true},
                                       {"disable", true},
                                       {"group", false},
                                       {"reset", true},
                                       {"enable", true},
                                       {"create", true},
                                       {"assign", true},
                                       {"maxc", true},
                                       {"mrtg-bytes", false},
                                       {"mrtg-conns", false},
                                       {"version", false},
                                       {"hash", true},
                                       {"rr", true}}};

constexpr const char* kHelp =
    R"(commands, which may be cut short:
  create <host> <port>            a new channel in the current group, disabled
  assign <channel> <host> <port>  another server for a disabled channel of the current group
  disable <channel>               no new sessions for a channel of the current group
  enable <channel>                new sessions again
  group <group>                   makes it the current group
  hash                            the current group is chosen from by the client's address
  rr                              the current group takes turns
  maxc <channel> <maxc>           sessions at once for a channel of the current group, 0: any
  mrtg-bytes <group> <channel>    bytes received and sent, for MRTG
  mrtg-conns <group> <channel>    sessions, for MRTG
  reset <channel>                 sets counters of a channel of the current group to 0
  show                            all channels of all groups
  version                         version and limits
  kill                            stops the one that serves, and quits
  help                            this
  quit                            ends the shell
)";

constexpr const char* kSyntax = "syntax error\n";

/// The place of a group or channel of which there are `count`.
std::optional<std::size_t> place_in(std::size_t count, const std::string& text) {
  const auto place = parse_number<std::size_t>(text);
  return place && *place < count ? place : std::nullopt;
}

std::uint64_t grown(std::uint64_t now, std::uint64_t from, std::uint64_t carried) {
  return (now > from ? now - from : 0) + carried;
}

/// The backends of a channel: one, or one an address of its name ("g0c1@192.0.2.7").
bool is_of(const control::BackendView& view, const std::string& channel) {
  return view.name == channel || view.name.rfind(channel + "@", 0) == 0;
}

}  // namespace

/// One line on its way.
struct BalanceShell::Turn {
  Commands& commands;
  std::vector<std::string> words;
  Asker asker;
  std::function<void(Reply)> answer;

  [[nodiscard]] std::size_t group() const { return asker.group; }
  void say(std::string text) const {
    answer({.text = std::move(text), .group = asker.group, .then = Reply::Then::go_on});
  }
};

config::LoadResult BalanceShell::load() const {
  config::LoadOptions options;
  options.file = "the command line";
  return config::load_text(line_.draft().text(), options);
}

// ---- looking

BalanceShell::Counts BalanceShell::counted(const std::vector<control::BackendView>& views,
                                           const Place& place) const {
  const std::string channel = BalanceLine::channel_name(place.first, place.second);
  Counts counts;
  for (const control::BackendView& each : views) {
    if (!is_of(each, channel)) continue;
    counts.sessions += each.sessions;
    counts.total += each.sessions_total + each.sessions;  // balance counts them when they begin
    counts.sent += each.bytes_to_backend;
    counts.received += each.bytes_to_client;
  }
  return counts;
}

BalanceShell::Shown BalanceShell::shown(const std::vector<control::BackendView>& views,
                                        const Place& place) const {
  const BalanceChannel& channel = line_.groups[place.first].channels[place.second];
  Shown out{
      .address = channel.host, .port = channel.port, .enabled = channel.enabled, .counts = {}};
  const std::string name = BalanceLine::channel_name(place.first, place.second);
  for (const control::BackendView& each : views) {
    if (each.name == name && each.address.family != 0) out.address = each.address.ip_text();
    // What poisectl decided counts as well.
    if (is_of(each, name) && each.admin != control::name_of(Admin::enabled)) out.enabled = false;
  }
  out.counts = counted(views, place);
  if (const auto at = since_.find(place); at != since_.end()) {
    const auto& [from, carried] = at->second;
    out.counts.total = grown(out.counts.total, from.total, carried.total);
    out.counts.sent = grown(out.counts.sent, from.sent, carried.sent);
    out.counts.received = grown(out.counts.received, from.received, carried.received);
  }
  return out;
}

std::string BalanceShell::table(const Commands& commands) const {
  const auto views = commands.backends();
  std::string out =
      fmt::format("{:>3} {:>4} {:>2} {:>3} {:>16} {:>5} {:>4} {:>11} {:>4} {:>11} {:>11}\n", "GRP",
                  "Type", "#", "S", "ip-address", "port", "c", "totalc", "maxc", "sent", "rcvd");
  for (std::size_t group = 0; group < line_.groups.size(); ++group) {
    for (std::size_t channel = 0; channel < line_.groups[group].channels.size(); ++channel) {
      const Shown row = shown(views, {group, channel});
      out += fmt::format("{:>3} {:>4} {:>2} {:>3} {:>16} {:>5} {:>4} {:>11} {:>4} {:>11} {:>11}\n",
                         group, line_.groups[group].hash ? "Hash" : "RR", channel,
                         row.enabled ? "ENA" : "dis", row.address, row.port, row.counts.sessions,
                         row.counts.total, line_.groups[group].channels[channel].sessions_max,
                         row.counts.sent, row.counts.received);
    }
  }
  return out;
}

std::string BalanceShell::mrtg(const Turn& turn, bool bytes) const {
  if (turn.words.size() != 3) return kSyntax;
  const auto group = place_in(line_.groups.size(), turn.words[1]);
  if (!group) return "unknown group\n";
  const auto channel = place_in(line_.groups[*group].channels.size(), turn.words[2]);
  if (!channel) return "unknown channel\n";
  const Counts counts = shown(turn.commands.backends(), {*group, *channel}).counts;
  // Four lines: two figures, the uptime, a name.
  return bytes ? fmt::format("{}\n{}\nUNKNOWN\ngroup {} channel {}\n", counts.received, counts.sent,
                             *group, *channel)
               : fmt::format("{}\nUNKNOWN\nUNKNOWN\ngroup {} channel {}\n", counts.total, *group,
                             *channel);
}

// ---- doing

/// `next` runs and `done` is said, or nothing changes and why not is said.
void BalanceShell::change(Turn turn, BalanceLine next, std::string done) {
  // A failed reload answers before it returns, so nobody ever sees the line that was not taken.
  BalanceLine before = std::exchange(line_, std::move(next));
  const Commands::By by{.user = turn.asker.user, .reason = "balance: " + turn.words.front()};
  turn.commands.reload(false, by,
                       [this, turn, before = std::move(before),
                        done = std::move(done)](const control::ReloadView& view) mutable {
                         if (view.done) return turn.say(std::move(done));
                         line_ = std::move(before);
                         turn.say(fmt::format("{}\n", fmt::join(view.errors, "\n")));
                       });
}

void BalanceShell::switch_channel(Turn turn, bool enable) {
  if (turn.words.size() != 2) return turn.say(kSyntax);
  const auto& channels = line_.groups[turn.group()].channels;
  const auto channel = place_in(channels.size(), turn.words[1]);
  if (!channel) return turn.say(fmt::format("no such channel {}\n", turn.words[1]));
  const char* const state = enable ? "enabled" : "disabled";
  const auto views = turn.commands.backends();
  if (shown(views, {turn.group(), *channel}).enabled == enable)
    return turn.say(fmt::format("channel {} already {}\n", *channel, state));
  if (enable) {
    const std::string name = BalanceLine::channel_name(turn.group(), *channel);
    for (const control::BackendView& each : views)
      if (is_of(each, name) && each.admin != control::name_of(Admin::enabled))
        static_cast<void>(turn.commands.set_admin(each.pool + "/" + each.name, Admin::enabled, {},
                                                  {.user = turn.asker.user, .reason = ""}));
  }
  BalanceLine next = line_;
  next.groups[turn.group()].channels[*channel].enabled = enable;
  change(std::move(turn), std::move(next), fmt::format("channel {} {}\n", *channel, state));
}

void BalanceShell::create(Turn turn) {
  if (line_.groups[turn.group()].channels.size() >= BalanceLine::kChannelsMax)
    return turn.say("no channel slots available\n");
  if (turn.words.size() != 3) return turn.say(kSyntax);
  auto channel = parse_balance_host(turn.words[1], turn.words[2]);
  if (!channel) return turn.say(fmt::format("invalid address: {}\n", channel.error().text()));
  channel->enabled = false;
  BalanceLine next = line_;
  next.groups[turn.group()].channels.push_back(std::move(*channel));
  change(std::move(turn), std::move(next), "channel created\n");
}

void BalanceShell::assign(Turn turn) {
  if (turn.words.size() != 4) return turn.say(kSyntax);
  const auto& channels = line_.groups[turn.group()].channels;
  const auto channel = place_in(channels.size(), turn.words[1]);
  if (!channel) return turn.say("unknown channel\n");
  const Place place{turn.group(), *channel};
  const auto views = turn.commands.backends();
  if (shown(views, place).enabled)
    return turn.say("channel must be disabled to assign new address\n");
  auto server = parse_balance_host(turn.words[2], turn.words[3]);
  if (!server) return turn.say(fmt::format("invalid address: {}\n", server.error().text()));
  BalanceLine next = line_;
  BalanceChannel& changed = next.groups[place.first].channels[place.second];
  changed.host = server->host;
  changed.port = server->port;
  const Counts carried = shown(views, place).counts;
  const std::string name = BalanceLine::channel_name(place.first, place.second);
  auto answer = std::move(turn.answer);
  turn.answer = [this, &commands = turn.commands, place, carried, name, server = *server,
                 answer = std::move(answer)](Reply reply) {
    const BalanceChannel& now = line_.groups[place.first].channels[place.second];
    // The new server may have had this channel before, and counted then.
    if (now.host == server.host && now.port == server.port)
      since_[place] = {.from = counted(commands.backends(), place), .carried = carried};
    answer(std::move(reply));
  };
  change(std::move(turn), std::move(next), "channel reassigned\n");
}

void BalanceShell::limit(Turn turn) {
  if (turn.words.size() != 3) return turn.say(kSyntax);
  const auto channel = place_in(line_.groups[turn.group()].channels.size(), turn.words[1]);
  if (!channel) return turn.say("unknown channel\n");
  const auto most = parse_number<unsigned>(turn.words[2], BalanceLine::kMaxcMax);
  if (!most) return turn.say(kSyntax);
  BalanceLine next = line_;
  next.groups[turn.group()].channels[*channel].sessions_max = *most;
  change(std::move(turn), std::move(next),
         fmt::format("maxc of channel {} changed to {}\n", *channel, *most));
}

void BalanceShell::reset(Turn turn) {
  if (turn.words.size() != 2) return turn.say(kSyntax);
  const auto channel = place_in(line_.groups[turn.group()].channels.size(), turn.words[1]);
  if (!channel) return turn.say(fmt::format("no such channel {}\n", turn.words[1]));
  const Place place{turn.group(), *channel};
  since_[place] = {.from = counted(turn.commands.backends(), place), .carried = {}};
  turn.say(fmt::format("channel {} counters reset\n", *channel));
}

void BalanceShell::choose_by(Turn turn, bool hash) {
  BalanceLine next = line_;
  next.groups[turn.group()].hash = hash;
  const std::string done =
      fmt::format("group {} set to {}\n", turn.group(), hash ? "hash" : "round robin");
  change(std::move(turn), std::move(next), done);
}

void BalanceShell::run(Commands& commands, const std::string& input, const Asker& asker,
                       std::function<void(Reply)> answer) {
  Turn turn{.commands = commands, .words = {}, .asker = asker, .answer = std::move(answer)};
  std::istringstream words(input);
  for (std::string word; words >> word;) turn.words.push_back(word);
  if (turn.words.empty()) return turn.say("");
  const auto meant = std::find_if(kWords.begin(), kWords.end(), [&turn](const Word& each) {
    return each.name.substr(0, turn.words.front().size()) == turn.words.front();
  });
  if (meant == kWords.end()) return turn.say(kSyntax);
  const std::string_view word = meant->name;
  if (meant->changes && !asker.admin)
    return turn.say(
        fmt::format("{} changes things: only root and who runs poise-balance may\n", word));
  if (turn.group() >= BalanceLine::kGroupsMax) return turn.say("value out of range\n");
  if (turn.group() >= line_.groups.size()) line_.groups.resize(turn.group() + 1);

  if (word == "quit")
    return turn.answer({.text = "", .group = asker.group, .then = Reply::Then::quit});
  if (word == "show") return turn.say(table(commands));
  if (word == "help" || word == "?") return turn.say(kHelp);
  if (word == "version")
    return turn.say(fmt::format("  This is poise-balance {}\n  MAXGROUPS={}\n  MAXCHANNELS={}\n",
                                commands.status().version, BalanceLine::kGroupsMax,
                                BalanceLine::kChannelsMax));
  if (word == "mrtg-bytes" || word == "mrtg-conns")
    return turn.say(mrtg(turn, word == "mrtg-bytes"));
  if (word == "group") {
    if (turn.words.size() != 2) return turn.say(kSyntax);
    const auto group = place_in(BalanceLine::kGroupsMax, turn.words[1]);
    if (!group) return turn.say("value out of range\n");
    return turn.answer(
        {.text = "", .group = static_cast<unsigned>(*group), .then = Reply::Then::go_on});
  }
  if (word == "kill") {
    commands.shutdown({.user = asker.user, .reason = "balance: kill"});
    return turn.answer({.text = "", .group = asker.group, .then = Reply::Then::await_end});
  }
  if (word == "disable" || word == "enable") return switch_channel(turn, word == "enable");
  if (word == "create") return create(turn);
  if (word == "assign") return assign(turn);
  if (word == "maxc") return limit(turn);
  if (word == "reset") return reset(turn);
  choose_by(turn, word == "hash");
}

void BalanceShell::autodisable(Commands& commands, const std::string& backend) {
  static_cast<void>(commands.set_admin(
      backend, Admin::disabled, {},
      {.user = "", .reason = "-a: it failed; balance's enable command brings it back"}));
}

}  // namespace poise
