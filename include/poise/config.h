#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "poise/address.h"
#include "poise/protocol.h"

/// The configuration as everyone but the loader sees it: defaults filled in, names resolved to
/// indices, checked. Times are milliseconds, 0 means "no limit" where the key allows it. Owned by
/// control; immutable once loaded.
namespace poise::config {

using std::chrono::milliseconds;

enum class LogTarget : std::uint8_t { journal, syslog, stderr_ };
enum class LogLevel : std::uint8_t { debug, info, warning, error };
enum class LogFormat : std::uint8_t { text, json };
enum class Forwarding : std::uint8_t { proxy, ipvs_nat, ipvs_dr, ipvs_tun };
enum class ForwardingFallback : std::uint8_t { error, proxy };
enum class AcceptProxy : std::uint8_t { no, yes, optional };
enum class EarlyTalk : std::uint8_t { pass, hold, refuse };
enum class DenyReply : std::uint8_t { reply_554, reply_421, drop };
enum class LimitMode : std::uint8_t { enforce, log };
enum class Scheduler : std::uint8_t { round_robin, least_conn, source_hash, maglev, random_two };
inline constexpr std::array<std::string_view, 5> kSchedulerNames{
    "round_robin", "least_conn", "source_hash", "maglev", "random_two"};
constexpr std::string_view name_of(Scheduler scheduler) {
  return kSchedulerNames[static_cast<std::size_t>(scheduler)];
}
enum class Overflow : std::uint8_t { queue, next_tier };
enum class WhenAllDown : std::uint8_t { attempt, refuse };  // "try" | "refuse"
enum class OnDown : std::uint8_t { keep, pace, close };
enum class SendProxy : std::uint8_t { off, v1, v2 };
enum class ProbeSendProxy : std::uint8_t { off, v1, v2, as_traffic };
enum class ProbeType : std::uint8_t {
  off,
  smtp,
  submission,
  lmtp,
  imap,
  pop3,
  managesieve,
  tcp,
  script
};
inline constexpr std::array<std::string_view, 9> kProbeTypeNames{
    "off", "smtp", "submission", "lmtp", "imap", "pop3", "managesieve", "tcp", "script"};
constexpr std::string_view name_of(ProbeType type) {
  return kProbeTypeNames[static_cast<std::size_t>(type)];
}
enum class ProbeTls : std::uint8_t { none, implicit, starttls };
enum class ProbeBusy : std::uint8_t { down, no_new };

/// Events per second; "30/m" is 0.5. 0: no limit.
struct Rate {
  double per_second = 0;

  bool operator==(const Rate&) const = default;
};

struct Admin {
  std::string socket;  ///< empty: none
  unsigned mode = 0660;
  std::string group;
  std::optional<Address> http;

  bool operator==(const Admin&) const = default;
};

struct Log {
  LogTarget target = LogTarget::stderr_;
  LogLevel level = LogLevel::info;
  LogFormat format = LogFormat::text;
  bool session_start = false;

  bool operator==(const Log&) const = default;
};

struct Greeting {
  bool enabled = false;
  milliseconds timeout{};
  milliseconds budget{};
  unsigned tries = 3;  ///< backends contacted for one client at most, connect failures included
  bool retry_5xx = false;

  bool operator==(const Greeting&) const = default;
};

struct Timeouts {
  milliseconds connect{};
  milliseconds idle{};         ///< silent both ways, the server spoke last
  milliseconds owed{};         ///< silent both ways, the client spoke last
  milliseconds half_closed{};  ///< one direction finished, the other silent

  bool operator==(const Timeouts&) const = default;
};

struct Refusal {
  std::string text;
  milliseconds delay{};

  bool operator==(const Refusal&) const = default;
};

struct Limits {
  unsigned sessions = 0;  ///< 0: no limit but the process's own
  unsigned sessions_per_source = 0;
  Rate rate_per_source;
  Rate rate;
  unsigned source_prefix_v4 = 32;
  unsigned source_prefix_v6 = 64;
  std::vector<Network> except;
  LimitMode mode = LimitMode::enforce;

  bool operator==(const Limits&) const = default;
};

struct Service {
  std::string name;
  std::vector<Address> listen;
  Protocol protocol = Protocol::tcp;
  std::size_t pool = 0;  ///< index into Config::pools
  Forwarding forwarding = Forwarding::proxy;
  ForwardingFallback forwarding_fallback = ForwardingFallback::error;
  AcceptProxy accept_proxy = AcceptProxy::no;
  std::vector<Network> trusted_proxies;
  Greeting greeting;
  EarlyTalk early_talk = EarlyTalk::pass;
  Timeouts timeouts;
  milliseconds keepalive{};     ///< TCP keepalive after that much silence; 0: off
  milliseconds user_timeout{};  ///< TCP_USER_TIMEOUT; 0: the system's
  std::string congestion = "system";
  Refusal refusal;
  std::vector<Network> allow;
  std::vector<Network> deny;
  DenyReply deny_reply = DenyReply::reply_554;
  Limits limits;

  bool operator==(const Service&) const = default;
};

struct Sticky {
  unsigned prefix_v4 = 24;
  unsigned prefix_v6 = 64;
  milliseconds ttl{};
  unsigned entries = 100000;
  double max_share = 0;
  std::vector<Network> except;

  bool operator==(const Sticky&) const = default;
};

struct Queue {
  unsigned length = 0;  ///< 0: no queue
  milliseconds timeout{};

  bool operator==(const Queue&) const = default;
};

struct Passive {
  bool enabled = false;
  unsigned fall = 3;
  milliseconds window{};
  double max_ejected = 0.5;

  bool operator==(const Passive&) const = default;
};

struct ProbeDeep {
  bool enabled = false;
  milliseconds interval{};
  bool ehlo = true;
  std::string rcpt;
  std::string login_user;
  std::string login_password_file;

  bool operator==(const ProbeDeep&) const = default;
};

struct Probe {
  ProbeType type = ProbeType::off;
  milliseconds interval{};
  milliseconds fast_interval{};
  milliseconds down_interval{};
  milliseconds timeout{};
  unsigned rise = 2;
  unsigned fall = 3;
  ProbeTls tls = ProbeTls::none;
  std::string sni;
  bool verify = false;
  std::string ca_file;
  ProbeSendProxy send_proxy = ProbeSendProxy::as_traffic;
  ProbeBusy busy = ProbeBusy::no_new;
  ProbeDeep deep;

  bool operator==(const Probe&) const = default;
};

struct SourceAddress {
  bool client = false;             ///< transparent: the client's own address
  std::vector<Address> addresses;  ///< empty and not `client`: the kernel chooses

  bool operator==(const SourceAddress&) const = default;
};

struct Backend {
  std::string name;     ///< unique in its pool
  std::string address;  ///< as written: literal or host name, with port
  std::optional<Address> literal;
  std::string host_name;  ///< when not a literal
  std::uint16_t port = 0;
  unsigned weight = 1;        ///< 0: no new sessions
  unsigned max_sessions = 0;  ///< 0: no limit
  Rate connect_rate;
  std::string host;  ///< the machine it is on, for host/NAME in commands
  unsigned tier = 0;

  bool operator==(const Backend&) const = default;
};

/// The rule of one tier: `first` for tier 0, the rest for tiers 1, 2, ...; the last one given goes
/// on for all above.
inline Scheduler scheduler_of(Scheduler first, const std::vector<Scheduler>& rest, unsigned tier) {
  return tier == 0 || rest.empty() ? first : rest[std::min<std::size_t>(tier, rest.size()) - 1];
}

struct Pool {
  std::string name;
  Scheduler scheduler = Scheduler::round_robin;
  std::vector<Scheduler> tier_schedulers;  ///< of tiers 1, 2, ...; empty: as tier 0. scheduler_of()
  std::string congestion = "system";
  std::optional<Sticky> sticky;
  Queue queue;
  Overflow overflow = Overflow::queue;
  unsigned min_up = 1;
  bool preempt = true;
  WhenAllDown when_all_down = WhenAllDown::attempt;
  OnDown on_down = OnDown::pace;
  SendProxy send_proxy = SendProxy::off;
  SourceAddress source_address;
  milliseconds slow_start{};
  Passive passive;
  Probe probe;
  std::vector<Backend> backends;

  bool operator==(const Pool&) const = default;
};

/// An address with the size of its network, "192.0.2.10/24": what an interface gets.
struct VirtualAddress {
  Address address;  ///< port 0
  std::uint8_t prefix = 0;

  [[nodiscard]] std::string text() const { return fmt::format("{}/{}", address.ip_text(), prefix); }
  bool operator==(const VirtualAddress&) const = default;
};

/// VRRP of one interface: an address, or several, that one of the two boxes has.
struct Vrrp {
  std::string name;
  std::string interface;
  unsigned router_id = 0;
  std::vector<VirtualAddress> virtual_addresses;
  milliseconds advert_interval{1000};
  bool preempt = false;

  bool operator==(const Vrrp&) const = default;
};

/// One box of a pair: what differs between the two; the rest of the file is the same on both.
struct PairNode {
  std::string name;
  Address address;                      ///< of the link between the two
  std::vector<Address> vrrp_addresses;  ///< that VRRP is spoken from, one a family; ports 0
  unsigned priority = 0;
  std::map<std::string, std::string> variables;  ///< what ${name} stands for in the file

  /// Of that family; null: none.
  [[nodiscard]] const Address* vrrp_address(std::uint8_t family) const {
    for (const Address& each : vrrp_addresses)
      if (each.family == family) return &each;
    return nullptr;
  }
  bool operator==(const PairNode&) const = default;
};

struct Pair {
  std::string key_file;
  milliseconds pace{};  ///< the passive box probes at most so often; 0: as often as the other
  std::vector<PairNode> nodes;  ///< two
  std::size_t own = 0;          ///< which of them we are
  std::vector<Vrrp> vrrp;

  [[nodiscard]] const PairNode& self() const { return nodes[own]; }
  [[nodiscard]] const PairNode& peer() const { return nodes[1 - own]; }
  bool operator==(const Pair&) const = default;
};

struct Config {
  unsigned version = 1;
  std::string hostname;  ///< the machine's FQDN when not given
  unsigned workers = 0;  ///< 0: "auto", one a CPU this process may run on
  std::string user;      ///< empty: stay who we are
  Admin admin;
  Log log;
  milliseconds shutdown_drain{30000};
  std::vector<Service> services;
  std::vector<Pool> pools;
  std::optional<Pair> pair;

  bool operator==(const Config&) const = default;
};

}  // namespace poise::config
