#include "command/balance_line.h"

#include <fmt/format.h>
#include <getopt.h>
#include <netdb.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "config/json_text.h"
#include "poise/address.h"

namespace poise {
namespace {

using config::json_text;

/// balance's own limits.
constexpr std::size_t kGroupsMax = 32, kChannelsMax = 64;
constexpr const char* kConnectTimeout = "5";
constexpr unsigned kSecondsMax = 86400 * 24;

struct Channel {
  std::string host;
  unsigned port = 0;
  unsigned sessions_max = 0;  ///< maxc; 0: any number
};

struct Group {
  std::vector<Channel> channels;
  bool hash = false;
};

std::optional<unsigned> number(std::string_view text, unsigned max) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > max) return std::nullopt;
  return value;
}

std::optional<unsigned> port_of(const std::string& text) {
  if (const auto port = number(text, 65535)) return *port > 0 ? port : std::nullopt;
  servent storage{};
  servent* found = nullptr;
  std::array<char, 4096> memory;
  if (::getservbyname_r(text.c_str(), "tcp", &storage, memory.data(), memory.size(), &found) != 0 ||
      found == nullptr)
    return std::nullopt;
  const auto high_first = static_cast<std::uint16_t>(found->s_port);
  return static_cast<unsigned>((high_first & 0xff) << 8 | high_first >> 8);
}

const char* protocol_of(unsigned port) {
  switch (port) {
    case 24:
      return "lmtp";
    case 25:
      return "smtp";
    case 110:
      return "pop3";
    case 143:
      return "imap";
    case 465:
      return "smtps";
    case 587:
      return "submission";
    case 993:
      return "imaps";
    case 995:
      return "pop3s";
    case 4190:
      return "managesieve";
    default:
      return "tcp";
  }
}

Error wrong(const std::string& what, std::string why) {
  return {what, std::move(why)};
}

/// host[:port[:maxc]]; an IPv6 address stands in brackets.
Result<Channel> parse_channel(const std::string& text, unsigned port) {
  Channel channel;
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
    const auto given = port_of(word);
    if (!given) return wrong(text, fmt::format("{} is neither a port nor a service name", word));
    channel.port = *given;
  }
  if (colon == std::string::npos) return channel;
  const auto most = number(rest.substr(colon + 1), 1'000'000);
  if (!most) return wrong(text, fmt::format("{} is no number of sessions", rest.substr(colon + 1)));
  channel.sessions_max = *most;
  return channel;
}

Result<std::vector<Group>> parse_groups(const std::vector<std::string>& words, unsigned port) {
  std::vector<Group> groups(1);
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
    if (groups.back().channels.size() > kChannelsMax)
      return wrong(words[i], fmt::format("a group has {} servers at most", kChannelsMax));
  }
  if (groups.size() > kGroupsMax)
    return wrong("!", fmt::format("there are {} groups at most", kGroupsMax));
  return groups;
}

/// One scheduler for the pool; a group of one server fits any.
Result<const char*> scheduler_of(const std::vector<Group>& groups) {
  const Group* decides = nullptr;
  for (const Group& each : groups) {
    if (each.channels.size() < 2) continue;
    if (decides != nullptr && decides->hash != each.hash)
      return wrong(
          "! and %",
          "a pool has one scheduler: make all groups of several servers round robin (!) or "
          "all of them hash groups (%), or write two services into a poise.json");
    decides = &each;
  }
  return decides != nullptr && decides->hash ? "source_hash" : "round_robin";
}

struct Options {
  std::string bind, source;
  std::string connect = kConnectTimeout;
  std::optional<unsigned> idle;
  bool debug = false, autodisable = false, v6 = false;
  std::size_t used = 0;  ///< arguments before the port
};

Result<Options> parse_options(const std::vector<std::string>& arguments) {
  std::vector<std::string> copies{"poise-balance"};
  copies.insert(copies.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& each : copies) argv.push_back(each.data());
  argv.push_back(nullptr);
  Options options;
  optind = 0;
  opterr = 0;
  for (;;) {
    const int option =
        ::getopt(static_cast<int>(argv.size()) - 1, argv.data(), "+:b:B:t:T:c:adfhipHM6");
    if (option < 0) break;
    switch (option) {
      case 'b':
        options.bind = optarg;
        break;
      case 'B':
        options.source = optarg;
        break;
      case 't':
        options.connect = optarg;
        if (const auto time = number(options.connect, kSecondsMax); !time || *time == 0)
          return wrong("-t " + options.connect, "is not a number of seconds");
        break;
      case 'T':
        options.idle = number(optarg, kSecondsMax);
        if (!options.idle) return wrong(std::string("-T ") + optarg, "is not a number of seconds");
        break;
      case 'a':
        options.autodisable = true;
        break;
      case 'd':
        options.debug = true;
        break;
      case '6':
        options.v6 = true;
        break;
      case 'f':  // always
      case 'H':  // always: who hashes to a server that is down gets another
      case 'M':  // there is no shared memory
        break;
      case 'p':
        return wrong("-p", "packets are not dumped: use tcpdump");
      case 'i':
      case 'c':
        return wrong(fmt::format("-{}", static_cast<char>(option)),
                     "commands go through poisectl -s SOCKET; poise-balance names its socket when "
                     "it starts");
      case ':':
        return wrong(fmt::format("-{}", static_cast<char>(optopt)), "needs a value");
      default:
        return wrong(fmt::format("-{}", static_cast<char>(optopt)), "is no option");
    }
  }
  options.used = static_cast<std::size_t>(optind) - 1;
  return options;
}

}  // namespace

Result<BalanceLine> parse_balance_line(const std::vector<std::string>& arguments) {
  const auto options = parse_options(arguments);
  if (!options) return options.error();
  std::vector<std::string> words(arguments.begin() + static_cast<std::ptrdiff_t>(options->used),
                                 arguments.end());
  if (words.size() < 2) return wrong("usage", "[options] PORT HOST[:PORT[:MAXC]] [!|%] ...");
  const auto port = port_of(words.front());
  if (!port) return wrong(words.front(), "is neither a port nor a service name");
  words.erase(words.begin());
  const auto groups = parse_groups(words, *port);
  if (!groups) return groups.error();
  const auto scheduler = scheduler_of(*groups);
  if (!scheduler) return scheduler.error();

  BalanceLine line;
  line.port = std::to_string(*port);
  std::vector<std::string> listen;
  if (!options->bind.empty()) {
    const auto address = Address::from_ip(options->bind, static_cast<std::uint16_t>(*port));
    if (!address) return wrong("-b " + options->bind, "is not an IP address");
    listen.push_back(json_text(address->text()));
    line.listen = address->ip_text();
  } else {
    listen.push_back(json_text(fmt::format("0.0.0.0:{}", *port)));
    if (options->v6) listen.push_back(json_text(fmt::format("[::]:{}", *port)));
    line.listen = options->v6 ? "::" : "0.0.0.0";
  }
  if (!options->source.empty() && !Address::from_ip(options->source))
    return wrong("-B " + options->source, "is not an IP address");
  const std::string protocol = protocol_of(*port);
  if (protocol == "tcp")
    line.notes.push_back(
        fmt::format("port {} is no mail protocol's: servers are not judged by a greeting", *port));
  if (options->autodisable)
    line.notes.emplace_back(
        "-a: a server that fails is left alone until its probes are good again, not until enable");

  std::string timeouts = fmt::format(R"("connect": "{}s")", options->connect);
  if (options->idle) {
    // 0 is never; the longest there is stands for it.
    const unsigned idle = *options->idle == 0 ? kSecondsMax : *options->idle;
    timeouts += fmt::format(R"(, "idle": "{0}s", "owed": "{0}s", "half_closed": "{0}s")", idle);
  }
  std::vector<std::string> backends;
  for (std::size_t tier = 0; tier < groups->size(); ++tier) {
    const std::vector<Channel>& channels = (*groups)[tier].channels;
    for (std::size_t number = 0; number < channels.size(); ++number)
      backends.push_back(fmt::format(
          R"({{ "name": "g{}c{}", "address": {}, "tier": {}, "max_sessions": {} }})", tier, number,
          json_text(fmt::format("{}:{}", channels[number].host, channels[number].port)), tier,
          channels[number].sessions_max));
  }
  line.config =
      fmt::format(R"({{
  "version": 1,
  "log": {{ "level": "{}" }},
  "admin": {{ "http": "off", "socket": "off" }},
  "services": [
    {{ "name": "balance", "listen": [{}], "protocol": "{}", "pool": "balance",
      "timeouts": {{ {} }} }} ],
  "pools": [
    {{ "name": "balance", "scheduler": "{}", "overflow": "next_tier",
      "source_address": {},
      "backends": [
        {} ] }} ]
}}
)",
                  options->debug ? "debug" : "info", fmt::join(listen, ", "), protocol, timeouts,
                  *scheduler, json_text(options->source.empty() ? "auto" : options->source),
                  fmt::join(backends, ",\n        "));
  return line;
}

}  // namespace poise
