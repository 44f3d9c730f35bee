#include "config/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <unordered_map>

#include "config/keys.h"
#include "config/units.h"

namespace poise::config {
namespace {

using std::chrono::milliseconds;
using namespace std::chrono_literals;

constexpr milliseconds kGreetDelay = 6s;  ///< postscreen_greet_wait of a stock Postfix

bool is_imap(Protocol protocol) {
  return protocol == Protocol::imap || protocol == Protocol::imaps;
}
bool is_pop3(Protocol protocol) {
  return protocol == Protocol::pop3 || protocol == Protocol::pop3s;
}
bool is_smtp_like(Protocol protocol) {
  return protocol == Protocol::smtp || protocol == Protocol::submission ||
         protocol == Protocol::smtps || protocol == Protocol::lmtp;
}

bool is_loopback(const Address& address) {
  if (address.is_v4()) return address.ip[0] == 127;
  std::array<std::uint8_t, 16> one{};
  one[15] = 1;
  return address.is_v6() && address.ip == one;
}

Address without_port(Address address) {
  address.port = 0;
  return address;
}

class Checker {
 public:
  Checker(const Config& config, const Node& root, const LoadOptions& options, Problems& problems)
      : config_(config),
        root_(root),
        options_(options),
        problems_(problems),
        users_(config.pools.size()) {}

  void run() {
    for (std::size_t i = 0; i < config_.services.size(); ++i) {
      const std::size_t pool = config_.services[i].pool;
      if (pool < users_.size())
        users_[pool].push_back(i);
      else
        all_pools_known_ = false;
    }
    if (config_.services.empty()) all_pools_known_ = false;
    check_process();
    unique_names("/services", config_.services);
    unique_names("/pools", config_.pools);
    check_listeners();
    for (std::size_t i = 0; i < config_.services.size(); ++i) check_service(i);
    for (std::size_t i = 0; i < config_.pools.size(); ++i) check_pool(i);
    if (config_.pair) check_pair(*config_.pair);
  }

 private:
  void error(const std::string& pointer, std::string message) {
    problems_.error(locate(root_, pointer), pointer, std::move(message));
  }
  void warn(const std::string& pointer, std::string message) {
    problems_.warn(locate(root_, pointer), pointer, std::move(message));
  }
  [[nodiscard]] const Node* given(const std::string& pointer) const {
    return find_at(root_, pointer);
  }
  /// In the file, and neither "off" nor false.
  [[nodiscard]] bool asked_for(const std::string& pointer) const {
    const Node* node = given(pointer);
    return node != nullptr && !is_off(*node) &&
           !(node->kind == Node::Kind::boolean && !node->boolean);
  }

  template <class T>
  void unique_names(const std::string& list, const std::vector<T>& objects) {
    std::unordered_map<std::string, std::size_t> seen;
    for (std::size_t i = 0; i < objects.size(); ++i) {
      if (objects[i].name.empty()) continue;
      const auto [first, added] = seen.emplace(objects[i].name, i);
      if (!added) {
        error(fmt::format("{}/{}/name", list, i),
              fmt::format("{} is also the name of {}/{}; names are unique", quote(objects[i].name),
                          list, first->second));
      }
    }
  }

  void check_process() {
    if (config_.workers > options_.cpus && options_.cpus > 0) {
      warn("/workers",
           fmt::format("{} workers for {} CPUs; more than one a CPU costs without serving more",
                       config_.workers, options_.cpus));
    }
    if (given("/hostname") != nullptr && config_.hostname.find('.') == std::string::npos) {
      warn("/hostname",
           fmt::format("{} is not fully qualified; many servers refuse such a name in EHLO",
                       quote(config_.hostname)));
    }
    if (!config_.admin.socket.empty() && (config_.admin.mode & 0002u) != 0) {
      warn("/admin/mode", fmt::format("\"{}\" lets every user of the machine give commands",
                                      format_mode(config_.admin.mode)));
    }
    if (config_.admin.http && !is_loopback(*config_.admin.http)) {
      warn("/admin/http", fmt::format("{} is reachable from outside and asks nobody for a password",
                                      config_.admin.http->text()));
    }
  }

  void check_listeners() {
    std::map<Address, std::string> seen;
    for (std::size_t i = 0; i < config_.services.size(); ++i) {
      const Service& service = config_.services[i];
      for (std::size_t j = 0; j < service.listen.size(); ++j) {
        const Address& address = service.listen[j];
        if (!address || address.port == 0) continue;
        const std::string pointer = fmt::format("/services/{}/listen/{}", i, j);
        const auto [first, added] = seen.emplace(address, pointer);
        if (!added)
          error(pointer, fmt::format("{} is also {}; an address serves one service", address.text(),
                                     first->second));
      }
    }
    if (config_.admin.http && config_.admin.http->port != 0) {
      if (const auto found = seen.find(*config_.admin.http); found != seen.end()) {
        error("/admin/http", fmt::format("{} is also {}; an address serves one thing",
                                         found->first.text(), found->second));
      }
    }
    for (const auto& [address, pointer] : seen) own_addresses_.insert(without_port(address));
    listeners_ = std::move(seen);
  }

  /// The listener that would take connections to `address`, or nullptr.
  [[nodiscard]] const std::pair<const Address, std::string>* listener_for(
      const Address& address) const {
    if (const auto exact = listeners_.find(address); exact != listeners_.end()) return &*exact;
    // A wildcard listener takes what arrives at any address of this machine; those we can be sure
    // of are loopback and what other listeners are bound to.
    if (!is_loopback(address) && !own_addresses_.contains(without_port(address))) return nullptr;
    Address any;
    any.family = address.family;
    any.port = address.port;
    const auto wildcard = listeners_.find(any);
    return wildcard != listeners_.end() ? &*wildcard : nullptr;
  }

  void check_service(std::size_t index) {
    const Service& service = config_.services[index];
    const std::string at = fmt::format("/services/{}", index);
    const Node* protocol = given(at + "/protocol");
    if (protocol != nullptr && protocol->text == name_of(service.protocol)) {
      check_timeouts(service, at);
      check_ports(service, at);
      check_gate(service, at);
    }
    check_access(service, at);
    if (service.forwarding != Forwarding::proxy) check_ipvs(service, at);
    if (service.protocol == Protocol::smtp && service.forwarding == Forwarding::proxy &&
        service.pool < config_.pools.size()) {
      const Pool& pool = config_.pools[service.pool];
      if (pool.send_proxy == SendProxy::off && !pool.source_address.client) {
        warn(at, fmt::format("backends of pool {} see our address instead of the client's: relay "
                             "rights, SPF, greylists and "
                             "per-client limits then judge us; set \"send_proxy\" there or "
                             "\"source_address\": \"client\"",
                             quote(pool.name)));
      }
    }
  }

  void check_timeouts(const Service& service, const std::string& at) {
    const Timeouts& timeouts = service.timeouts;
    const std::string idle = at + "/timeouts/idle";
    const auto below = [](milliseconds value) { return quote(format_duration(value)); };
    if (is_imap(service.protocol) && timeouts.idle < 30min) {
      warn(idle, fmt::format("{} cuts clients in IDLE; they may be silent for 30m (RFC 9051 5.4)",
                             below(timeouts.idle)));
    } else if (service.protocol == Protocol::managesieve && timeouts.idle < 30min) {
      warn(idle,
           fmt::format("{} cuts clients that servers let be silent for 30m", below(timeouts.idle)));
    } else if (is_pop3(service.protocol) && timeouts.idle < 10min) {
      warn(idle, fmt::format("{} cuts clients that may be silent for 10m (RFC 1939 3)",
                             below(timeouts.idle)));
    } else if (is_smtp_like(service.protocol) && timeouts.idle < 5min) {
      warn(idle, fmt::format("{} cuts clients that may be silent for 5m (RFC 5321 4.5.3.2.7)",
                             below(timeouts.idle)));
    }
    if (is_smtp_like(service.protocol) && timeouts.owed < 10min) {
      warn(at + "/timeouts/owed",
           fmt::format(
               "{} cuts sessions whose answer to the final dot may take 10m (RFC 5321 4.5.3.2.6); "
               "their mail arrives twice",
               below(timeouts.owed)));
    } else if (timeouts.owed < timeouts.idle && given(at + "/timeouts/owed") != nullptr) {
      warn(at + "/timeouts/owed",
           fmt::format("{} is shorter than \"idle\" ({}): a session whose server owes an answer is "
                       "cut first",
                       below(timeouts.owed), format_duration(timeouts.idle)));
    }
    if (!service.greeting.enabled) return;
    const Greeting& greeting = service.greeting;
    if (greeting.timeout > greeting.budget) {
      error(at + "/greeting/timeout",
            fmt::format("{} is longer than \"budget\" ({}), which all tries share",
                        below(greeting.timeout), format_duration(greeting.budget)));
    }
    if (timeouts.connect > greeting.budget) {
      const std::string key =
          given(at + "/greeting/budget") != nullptr ? "/greeting/budget" : "/timeouts/connect";
      error(at + key,
            fmt::format("greeting \"budget\" ({}) is shorter than timeouts \"connect\" ({}), which "
                        "it includes",
                        format_duration(greeting.budget), format_duration(timeouts.connect)));
    }
    const bool delays =
        service.protocol == Protocol::smtp || service.protocol == Protocol::submission;
    if (delays && greeting.timeout <= kGreetDelay) {
      warn(at + "/greeting/timeout",
           fmt::format("{} is not above the {} by which servers delay their greeting (postscreen)",
                       below(greeting.timeout), format_duration(kGreetDelay)));
    }
  }

  struct TlsPort {
    std::uint16_t port;
    Protocol protocol;
    bool tls;
  };
  static constexpr std::array<TlsPort, 7> kTlsPorts{{{465, Protocol::smtps, true},
                                                     {993, Protocol::imaps, true},
                                                     {995, Protocol::pop3s, true},
                                                     {25, Protocol::smtp, false},
                                                     {587, Protocol::submission, false},
                                                     {143, Protocol::imap, false},
                                                     {110, Protocol::pop3, false}}};

  void check_port(const Service& service, std::uint16_t port, const std::string& pointer) {
    for (const TlsPort& usual : kTlsPorts) {
      if (usual.port != port || usual.tls == is_implicit_tls(service.protocol)) continue;
      warn(pointer, fmt::format("port {} usually speaks {}, {}, but protocol {} was given", port,
                                name_of(usual.protocol),
                                usual.tls ? "TLS from the first byte" : "no TLS at first",
                                quote(name_of(service.protocol))));
    }
  }

  void check_ports(const Service& service, const std::string& at) {
    if (service.protocol == Protocol::tcp) return;
    for (std::size_t j = 0; j < service.listen.size(); ++j) {
      check_port(service, service.listen[j].port, fmt::format("{}/listen/{}", at, j));
    }
    if (service.pool >= config_.pools.size()) return;
    // The bytes pass unchanged, so the backends' port must speak what the service's does.
    if (!users_[service.pool].empty() &&
        &config_.services[users_[service.pool].front()] != &service)
      return;
    const std::vector<Backend>& backends = config_.pools[service.pool].backends;
    for (std::size_t j = 0; j < backends.size(); ++j) {
      check_port(service, backends[j].port,
                 fmt::format("/pools/{}/backends/{}/address", service.pool, j));
    }
  }

  void check_gate(const Service& service, const std::string& at) {
    if (service.protocol != Protocol::tcp) return;
    if (const Node* greeting = given(at + "/greeting"); greeting != nullptr) {
      for (const Member& member : greeting->members) {
        if (member.key == "timeout" || member.key == "budget" || member.key == "retry_5xx") {
          error(at + "/greeting/" + member.key,
                "protocol \"tcp\" has no greeting to wait for; only \"tries\" applies");
        }
      }
    }
    if (service.early_talk != EarlyTalk::pass) {
      error(at + "/early_talk",
            "protocol \"tcp\" has no greeting to speak before; only \"pass\" applies");
    }
  }

  void check_access(const Service& service, const std::string& at) {
    for (std::size_t j = 0; j < service.trusted_proxies.size(); ++j) {
      const Network& network = service.trusted_proxies[j];
      const bool private_v6 =
          network.base.is_v6() && (network.base.ip[0] & 0xfeu) == 0xfcu;  // fc00::/7
      if (network.base.is_v4() ? network.prefix < 8
                               : network.prefix < 32 && !(private_v6 && network.prefix >= 7)) {
        warn(fmt::format("{}/trusted_proxies/{}", at, j),
             fmt::format("{} lets very many hosts claim any client address; name the proxies",
                         network.text()));
      }
    }
    if (service.accept_proxy != AcceptProxy::no && service.trusted_proxies.empty()) {
      error(at + "/accept_proxy",
            "needs \"trusted_proxies\": nobody is trusted to send a PROXY header");
    } else if (service.accept_proxy == AcceptProxy::no && !service.trusted_proxies.empty()) {
      warn(at + "/trusted_proxies", "has no effect while \"accept_proxy\" is false");
    }
    const std::set<Network> allowed(service.allow.begin(), service.allow.end());
    for (std::size_t j = 0; j < service.deny.size(); ++j) {
      if (allowed.contains(service.deny[j])) {
        error(fmt::format("{}/deny/{}", at, j),
              fmt::format("{} is in \"allow\", too", service.deny[j].text()));
      }
    }
  }

  void check_ipvs(const Service& service, const std::string& at) {
    for (const char* key : {"/greeting", "/accept_proxy"}) {
      if (asked_for(at + key))
        error(at + key, "contradicts ip_vs \"forwarding\": the kernel moves these sessions");
    }
    if (const Node* early = given(at + "/early_talk"); early != nullptr && early->text != "pass") {
      error(at + "/early_talk",
            "contradicts ip_vs \"forwarding\": the kernel moves these sessions");
    }
    for (std::size_t j = 0; j < service.listen.size(); ++j) {
      const Address& listen = service.listen[j];
      if (listen.is_any() || listen.port == 0)
        error(fmt::format("{}/listen/{}", at, j),
              "ip_vs \"forwarding\" needs the address and the port themselves, such as "
              "192.0.2.1:25");
    }
    if (service.pool >= config_.pools.size()) return;
    const std::string pool_at = fmt::format("/pools/{}", service.pool);
    for (const char* key : {"/send_proxy", "/queue"}) {
      if (asked_for(pool_at + key)) {
        error(pool_at + key,
              fmt::format(
                  "contradicts ip_vs \"forwarding\" of service {}: the kernel moves its sessions",
                  quote(service.name)));
      }
    }
    const Pool& pool = config_.pools[service.pool];
    if (std::any_of(pool.tier_schedulers.begin(), pool.tier_schedulers.end(),
                    [&pool](Scheduler each) { return each != pool.scheduler; }))
      error(pool_at + "/scheduler",
            fmt::format("different rules for the tiers contradict ip_vs \"forwarding\" of service "
                        "{}: the kernel has one",
                        quote(service.name)));
    if (service.forwarding == Forwarding::ipvs_nat) return;
    const std::vector<Backend>& backends = pool.backends;
    for (std::size_t j = 0; j < backends.size(); ++j) {
      const bool same =
          std::any_of(service.listen.begin(), service.listen.end(),
                      [&](const Address& listen) { return listen.port == backends[j].port; });
      if (backends[j].port != 0 && !same) {
        error(fmt::format("{}/backends/{}/address", pool_at, j),
              fmt::format("port {} is not a port of service {}; ip_vs can't change the port in "
                          "\"ipvs-dr\" and \"ipvs-tun\"",
                          backends[j].port, quote(service.name)));
      }
    }
  }

  void check_pool(std::size_t index) {
    const Pool& pool = config_.pools[index];
    const std::string at = fmt::format("/pools/{}", index);
    unique_names(at + "/backends", pool.backends);
    check_backends(pool, at);
    check_tiers(pool, at);
    if (all_pools_known_ && users_[index].empty() && !pool.name.empty()) {
      warn(at, fmt::format("pool {} is not used by any service", quote(pool.name)));
    }
    const bool least_conn =
        pool.scheduler == Scheduler::least_conn ||
        std::count(pool.tier_schedulers.begin(), pool.tier_schedulers.end(), Scheduler::least_conn);
    if (least_conn && pool.slow_start == 0ms) {
      warn(at + "/scheduler",
           "\"least_conn\" without \"slow_start\" floods a backend that returns");
    }
    if (given(at + "/queue") != nullptr && pool.queue.length > 0 && !any_limit(pool)) {
      warn(at + "/queue", "has no effect: no backend has \"max_sessions\"");
    }
    if (pool.probe.type != ProbeType::off) check_probe(pool, index, at);
  }

  static bool any_limit(const Pool& pool) {
    return std::any_of(pool.backends.begin(), pool.backends.end(),
                       [](const Backend& backend) { return backend.max_sessions > 0; });
  }

  void check_backends(const Pool& pool, const std::string& at) {
    std::unordered_map<std::string, std::size_t> seen;
    bool any_weight = pool.backends.empty();
    for (std::size_t j = 0; j < pool.backends.size(); ++j) {
      const Backend& backend = pool.backends[j];
      any_weight = any_weight || backend.weight > 0;
      if (backend.address.empty()) continue;
      const std::string pointer = fmt::format("{}/backends/{}/address", at, j);
      const auto [first, added] =
          seen.emplace(backend.literal ? backend.literal->text() : backend.address, j);
      if (!added) {
        warn(pointer, fmt::format("{} is also the address of {}/backends/{}", first->first, at,
                                  first->second));
      }
      if (!backend.literal) continue;
      if (const auto* listener = listener_for(*backend.literal)) {
        error(pointer,
              fmt::format("{} is our own listener {} ({}): sessions would run in a circle",
                          backend.literal->text(), listener->first.text(), listener->second));
      }
    }
    if (!any_weight) warn(at + "/backends", "every backend has weight 0: nobody gets new sessions");
  }

  void check_tiers(const Pool& pool, const std::string& at) {
    std::map<unsigned, std::size_t> tiers;
    for (const Backend& backend : pool.backends) ++tiers[backend.tier];
    for (const auto& [tier, size] : tiers) {
      if (pool.min_up <= size || (tiers.size() > 1 && tier == tiers.rbegin()->first)) continue;
      warn(at + "/min_up",
           fmt::format("{} is more than tier {} has backends ({}){}", pool.min_up, tier, size,
                       tiers.size() > 1 ? ": it is never used alone" : ""));
    }
    if (pool.overflow == Overflow::next_tier && tiers.size() == 1) {
      warn(at + "/overflow", "\"next_tier\" has no effect: all backends are in one tier");
    } else if (pool.overflow == Overflow::next_tier && !any_limit(pool)) {
      warn(at + "/overflow", "\"next_tier\" has no effect: no backend has \"max_sessions\"");
    }
  }

  void check_probe(const Pool& pool, std::size_t index, const std::string& pool_at) {
    const Probe& probe = pool.probe;
    const std::string at = pool_at + "/probe";
    if (probe.fast_interval > probe.interval) {
      error(at + "/fast_interval", fmt::format("{} is longer than \"interval\" ({})",
                                               quote(format_duration(probe.fast_interval)),
                                               format_duration(probe.interval)));
    }
    if (probe.deep.enabled && probe.deep.interval < probe.interval) {
      error(at + "/deep/interval",
            fmt::format("{} is shorter than \"interval\" of the cheap probe ({})",
                        quote(format_duration(probe.deep.interval)),
                        format_duration(probe.interval)));
    }
    const bool delays = probe.type == ProbeType::smtp || probe.type == ProbeType::submission;
    if (delays && probe.timeout <= kGreetDelay) {
      warn(at + "/timeout",
           fmt::format("{} is not above the {} by which servers delay their greeting (postscreen)",
                       quote(format_duration(probe.timeout)), format_duration(kGreetDelay)));
    }
    if (probe.tls == ProbeTls::none) {
      if (probe.verify) error(at + "/verify", "needs \"tls\": without it there is no certificate");
      if (!probe.sni.empty())
        error(at + "/sni", "needs \"tls\": without it there is no server name to send");
    } else if (probe.tls == ProbeTls::starttls && probe.type == ProbeType::tcp) {
      error(at + "/tls", "probe \"tcp\" has no dialogue that could ask for STARTTLS");
    }
    if (!probe.ca_file.empty() && !probe.verify)
      warn(at + "/ca_file", "has no effect while \"verify\" is false");
    if (probe.deep.enabled) check_deep(probe, at);
    std::set<std::string_view> protocols;
    for (const std::size_t user : users_[index])
      protocols.insert(name_of(config_.services[user].protocol));
    if (protocols.size() > 1 && given(at + "/type") == nullptr) {
      warn(pool_at, fmt::format("used by services with different protocols ({}); the probe follows "
                                "the first, set \"type\" in \"probe\"",
                                fmt::join(protocols, ", ")));
    }
  }

  void check_deep(const Probe& probe, const std::string& at) {
    const ProbeDeep& deep = probe.deep;
    const bool smtp = probe.type == ProbeType::smtp || probe.type == ProbeType::submission ||
                      probe.type == ProbeType::lmtp;
    if (!deep.rcpt.empty() && !smtp)
      error(at + "/deep/rcpt", "only probes of smtp, submission and lmtp ask for a recipient");
    if (deep.login_user.empty() != deep.login_password_file.empty()) {
      error(at + "/deep/login", "\"user\" and \"password_file\" are given together or not at all");
    }
    if (!deep.login_user.empty() &&
        (probe.type == ProbeType::tcp || probe.type == ProbeType::lmtp ||
         probe.type == ProbeType::smtp)) {
      error(at + "/deep/login", "only probes of submission, imap, pop3 and managesieve log in");
    }
  }

  void check_pair(const Pair& pair) {
    if (pair.nodes.empty()) return;  // said by the reader
    if (pair.nodes.size() != 2)
      return error("/pair/nodes", fmt::format("{} node: a pair has two", pair.nodes.size()));
    unique_names("/pair/nodes", pair.nodes);
    unique_names("/pair/vrrp", pair.vrrp);
    const PairNode &first = pair.nodes[0], &second = pair.nodes[1];
    if (pair.own >= pair.nodes.size()) {
      return error(
          "/pair/nodes",
          fmt::format("none of {} and {} is this machine, {}: write its node's name into "
                      "the file \"node\" beside this one",
                      quote(first.name), quote(second.name), quote(options_.node.value_or(""))));
    }
    if (first.address && first.address == second.address)
      error("/pair/nodes/1/address", "both nodes have this address");
    if (first.address && first.address.family != second.address.family)
      error("/pair/nodes/1/address", "one node has an IPv4 address, the other an IPv6 address");
    else if (families_of(first) != families_of(second))
      error("/pair/nodes/1/vrrp_address", "not of the family of the first node's");
    if (first.priority == second.priority)
      error("/pair/nodes/1/priority",
            fmt::format("both nodes have priority {}; who is higher begins", first.priority));
    for (const auto& [name, value] : pair.nodes[0].variables) same_variable(name, 1);
    for (const auto& [name, value] : pair.nodes[1].variables) same_variable(name, 0);
    for (std::size_t i = 0; i < pair.vrrp.size(); ++i) check_vrrp(pair, i);
  }

  static std::set<std::uint8_t> families_of(const PairNode& node) {
    std::set<std::uint8_t> families;
    for (const Address& each : node.vrrp_addresses) families.insert(each.family);
    return families;
  }

  void same_variable(const std::string& name, std::size_t node) {
    const PairNode& other = config_.pair->nodes[node];
    if (!other.variables.contains(name))
      error(
          fmt::format("/pair/nodes/{}/variables", node),
          fmt::format("node {} has no variable {}, the other has", quote(other.name), quote(name)));
  }

  void check_vrrp(const Pair& pair, std::size_t index) {
    const Vrrp& vrrp = pair.vrrp[index];
    const std::string at = fmt::format("/pair/vrrp/{}", index);
    for (std::size_t i = 0; i < index; ++i)
      if (pair.vrrp[i].router_id == vrrp.router_id && pair.vrrp[i].interface == vrrp.interface)
        error(at + "/router_id", fmt::format("{} is also that of /pair/vrrp/{} on {}",
                                             vrrp.router_id, i, vrrp.interface));
    if (vrrp.advert_interval % 10ms != 0ms)
      error(at + "/advert_interval", fmt::format("{}: VRRP counts hundredths of a second",
                                                 quote(format_duration(vrrp.advert_interval))));
    bool family = vrrp.virtual_addresses.empty();
    for (std::size_t i = 0; i < vrrp.virtual_addresses.size(); ++i) {
      const Address& address = vrrp.virtual_addresses[i].address;
      const std::string pointer = fmt::format("{}/virtual_addresses/{}", at, i);
      family = family || pair.self().vrrp_address(address.family) != nullptr;
      for (const PairNode& node : pair.nodes)
        if (without_port(node.address) == address ||
            std::count(node.vrrp_addresses.begin(), node.vrrp_addresses.end(), address) != 0)
          error(pointer,
                fmt::format("{} is the address of node {}: a virtual address is nobody's own",
                            address.ip_text(), quote(node.name)));
      Address any;
      any.family = address.family;
      if (all_pools_known_ && !own_addresses_.contains(address) && !own_addresses_.contains(any))
        warn(pointer, fmt::format("no service listens on {}", address.ip_text()));
    }
    if (!family)
      error(at + "/virtual_addresses",
            fmt::format("none is of the family of the nodes' \"vrrp_address\" ({}); it may be a "
                        "list of two, one of each family",
                        pair.self().vrrp_addresses.front().ip_text()));
  }

  const Config& config_;
  const Node& root_;
  const LoadOptions& options_;
  Problems& problems_;
  std::vector<std::vector<std::size_t>> users_;  ///< of each pool: its services
  bool all_pools_known_ = true;                  ///< no service names a pool that isn't there
  std::map<Address, std::string> listeners_;     ///< with their pointers; without those on port 0
  std::set<Address> own_addresses_;              ///< what we listen on, port 0
};

}  // namespace

void check(const Config& config, const Node& root, const LoadOptions& options, Problems& problems) {
  Checker(config, root, options, problems).run();
}

}  // namespace poise::config
