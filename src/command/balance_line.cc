#include "command/balance_line.h"

#include <fmt/format.h>
#include <getopt.h>
#include <netdb.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "config/json_text.h"
#include "poise/address.h"
#include "poise/number.h"

namespace poise {
namespace {

using config::json_text;

constexpr unsigned kSecondsMax = 86400 * 24;

Error wrong(const std::string& what, std::string why) {
  return {what, std::move(why)};
}

/// host[:port[:maxc]]; an IPv6 address stands in brackets.
Result<BalanceChannel> parse_channel(const std::string& text, unsigned port) {
  BalanceChannel channel;
  channel.port = port;
  std::string rest;
  if (text.front() == '[') {
    const std::size_t end = text.find(']');
    if (end == std::string::npos) return wrong(text, "has no ]");
    channel.host = text.substr(0, end + 1);
    rest = text.substr(end + 1);
    if (!Address::from_ip(text.substr(1, end - 1))) return wrong(text, "is not an IPv6 address");
  } else {
    channel.host = text.substr(0, text.find(':'));
    rest = text.substr(channel.host.size());
  }
  if (channel.host.empty()) return wrong(text, "has no host: host[:port[:maxc]]");
  if (rest.empty()) return channel;
  if (rest.front() != ':') return wrong(text, "is not host[:port[:maxc]]");
  rest.erase(0, 1);
  const std::size_t colon = rest.find(':');
  if (const std::string word = rest.substr(0, colon); !word.empty()) {
    const auto given = balance_port(word);
    if (!given) return wrong(text, fmt::format("{} is neither a port nor a service name", word));
    channel.port = *given;
  }
  if (colon == std::string::npos) return channel;
  const auto most = parse_number<unsigned>(rest.substr(colon + 1), BalanceLine::kMaxcMax);
  if (!most) return wrong(text, fmt::format("{} is no number of sessions", rest.substr(colon + 1)));
  channel.sessions_max = *most;
  return channel;
}

Result<std::vector<BalanceGroup>> parse_groups(const std::vector<std::string>& words,
                                               unsigned port) {
  std::vector<BalanceGroup> groups(1);
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "!" || words[i] == "%") {
      if (groups.back().channels.empty())
        return wrong(words[i], "ends a group, and there is no server before it");
      groups.back().hash = words[i] == "%";
      if (i + 1 < words.size()) groups.emplace_back();
      continue;
    }
    if (words[i].empty()) return wrong("\"\"", "is not host[:port[:maxc]]");
    auto channel = parse_channel(words[i], port);
    if (!channel) return channel.error();
    groups.back().channels.push_back(std::move(*channel));
    if (groups.back().channels.size() > BalanceLine::kChannelsMax)
      return wrong(words[i],
                   fmt::format("a group has {} servers at most", BalanceLine::kChannelsMax));
  }
  if (groups.size() > BalanceLine::kGroupsMax)
    return wrong("!", fmt::format("there are {} groups at most", BalanceLine::kGroupsMax));
  return groups;
}

/// What getopt finds, into `line`; how many arguments that were.
Result<std::size_t> parse_options(const std::vector<std::string>& arguments, BalanceLine& line) {
  std::vector<std::string> copies{"poise-balance"};
  copies.insert(copies.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& each : copies) argv.push_back(each.data());
  argv.push_back(nullptr);
  optind = 0;
  opterr = 0;
  for (;;) {
    const int option =
        ::getopt(static_cast<int>(argv.size()) - 1, argv.data(), "+:b:B:t:T:c:adfhipHM6");
    if (option < 0) break;
    switch (option) {
      case 'b':
        if (!Address::from_ip(optarg))
          return wrong(std::string("-b ") + optarg, "is not an IP address");
        line.bind = optarg;
        break;
      case 'B':
        if (!Address::from_ip(optarg))
          return wrong(std::string("-B ") + optarg, "is not an IP address");
        line.source = optarg;
        break;
      case 't':
        if (const auto time = parse_number<unsigned>(optarg, kSecondsMax); time && *time > 0)
          line.connect_seconds = *time;
        else
          return wrong(std::string("-t ") + optarg, "is not a number of seconds");
        break;
      case 'T':
        line.idle_seconds = parse_number<unsigned>(optarg, kSecondsMax);
        if (!line.idle_seconds)
          return wrong(std::string("-T ") + optarg, "is not a number of seconds");
        break;
      case 'a':
        line.autodisable = true;
        break;
      case 'd':
        line.debug = true;
        break;
      case '6':
        line.v6 = true;
        break;
      case 'f':
        line.foreground = true;
        break;
      case 'H':  // always: who hashes to a server that is down gets another
      case 'M':  // there is no shared memory
        break;
      case 'p':
        line.notes.emplace_back("-p: packets are not dumped; tcpdump does it");
        break;
      case 'i':
        line.task = BalanceLine::Task::shell;
        break;
      case 'c':
        line.task = BalanceLine::Task::command;
        line.command = optarg;
        break;
      case ':':
        return wrong(fmt::format("-{}", static_cast<char>(optopt)), "needs a value");
      default:
        return wrong(fmt::format("-{}", static_cast<char>(optopt)), "is no option");
    }
  }
  return static_cast<std::size_t>(optind) - 1;
}

}  // namespace

std::optional<unsigned> balance_port(const std::string& text) {
  if (const auto port = parse_number<unsigned>(text, 65535)) return *port > 0 ? port : std::nullopt;
  servent storage{};
  servent* found = nullptr;
  std::array<char, 4096> memory;
  if (::getservbyname_r(text.c_str(), "tcp", &storage, memory.data(), memory.size(), &found) != 0 ||
      found == nullptr)
    return std::nullopt;
  const auto high_first = static_cast<std::uint16_t>(found->s_port);
  return static_cast<unsigned>((high_first & 0xff) << 8 | high_first >> 8);
}

Result<BalanceLine> parse_balance_line(const std::vector<std::string>& arguments) {
  BalanceLine line;
  const auto used = parse_options(arguments, line);
  if (!used) return used.error();
  std::vector<std::string> words(arguments.begin() + static_cast<std::ptrdiff_t>(*used),
                                 arguments.end());
  const bool serves = line.task == BalanceLine::Task::serve;
  if (serves && words.size() < 2)
    return wrong("usage", "[options] PORT HOST[:PORT[:MAXC]] [!|%] ...");
  if (!serves && words.size() != 1)
    return wrong("usage", "[-b ADDR] -i PORT, or [-b ADDR] -c COMMAND PORT");
  const auto port = balance_port(words.front());
  if (!port) return wrong(words.front(), "is neither a port nor a service name");
  line.port = *port;
  if (!serves) return line;
  words.erase(words.begin());
  auto groups = parse_groups(words, line.port);
  if (!groups) return groups.error();
  line.groups = std::move(*groups);
  if (protocol_of_port(line.port) == "tcp")
    line.notes.push_back(fmt::format(
        "port {} is no mail protocol's: servers are not judged by a greeting", line.port));
  return line;
}

std::string BalanceLine::listen() const {
  return bind.empty() ? v6 ? "::" : "0.0.0.0" : Address::from_ip(bind)->ip_text();
}

Draft BalanceLine::draft() const {
  Draft draft;
  draft.top.set_in("log", "level", json_text(debug ? "debug" : "info"));
  draft.top.set_in("admin", "http", json_text("off"));

  Members& service = draft.services.emplace_back();
  service.set_text("name", "balance");
  const auto at_port = [this](const std::string& address) {
    return json_text(Address::from_ip(address, static_cast<std::uint16_t>(port))->text());
  };
  service.set("listen", bind.empty() && v6
                            ? fmt::format("[{}, {}]", at_port("0.0.0.0"), at_port("::"))
                            : fmt::format("[{}]", at_port(listen())));
  service.set_text("protocol", protocol_of_port(port));
  service.set_text("pool", "balance");
  service.set_in("timeouts", "connect", json_text(fmt::format("{}s", connect_seconds)));
  if (idle_seconds) {
    // 0 is never; the longest there is stands for it.
    const unsigned idle = *idle_seconds == 0 ? kSecondsMax : *idle_seconds;
    for (const char* key : {"idle", "owed", "half_closed"})
      service.set_in("timeouts", key, json_text(fmt::format("{}s", idle)));
  }

  Draft::Pool& pool = draft.pools.emplace_back();
  pool.keys.set_text("name", "balance");
  const bool alike = std::all_of(groups.begin(), groups.end(), [this](const BalanceGroup& each) {
    return each.channels.empty() || each.hash == groups.front().hash;
  });
  std::vector<std::string> schedulers;
  for (const BalanceGroup& each : groups)
    schedulers.push_back(json_text(each.hash ? "source_hash" : "round_robin"));
  pool.keys.set("scheduler",
                alike ? schedulers.front() : fmt::format("[{}]", fmt::join(schedulers, ", ")));
  pool.keys.set_text("overflow", "next_tier");
  if (!source.empty()) pool.keys.set_text("source_address", source);
  for (std::size_t tier = 0; tier < groups.size(); ++tier) {
    for (std::size_t number = 0; number < groups[tier].channels.size(); ++number) {
      const BalanceChannel& channel = groups[tier].channels[number];
      Members& backend = pool.backends.emplace_back();
      backend.set_text("name", channel_name(tier, number));
      backend.set_text("address", fmt::format("{}:{}", channel.host, channel.port));
      if (tier > 0) backend.set("tier", std::to_string(tier));
      if (channel.sessions_max > 0)
        backend.set("max_sessions", std::to_string(channel.sessions_max));
      if (!channel.enabled) backend.set("weight", "0");
    }
  }
  return draft;
}

std::string BalanceLine::channel_name(std::size_t group, std::size_t channel) {
  return fmt::format("g{}c{}", group, channel);
}

Result<BalanceChannel> parse_balance_host(const std::string& host, const std::string& port) {
  const auto number = balance_port(port);
  if (!number) return wrong(port, "is neither a port nor a service name");
  if (host.find(':') != std::string::npos && host.front() != '[') {
    if (!Address::from_ip(host)) return wrong(host, "is not an address");
    return BalanceChannel{.host = "[" + host + "]", .port = *number};
  }
  auto channel = parse_channel(host, *number);
  if (channel && channel->port != *number) return wrong(host, "has a port of its own");
  return channel;
}

}  // namespace poise
