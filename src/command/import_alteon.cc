#include "command/import_alteon.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "command/balance_line.h"
#include "config/json_text.h"
#include "poise/address.h"
#include "poise/number.h"

namespace poise {
namespace {

using config::json_text;

struct Real {
  unsigned line = 0;
  bool enabled = false;  ///< until "ena" is said
  std::string address, name;
  std::optional<unsigned> weight, sessions_max, interval, retry, restore, timeout_minutes;
  std::string backup;
};

struct Group {
  unsigned line = 0;
  std::string name, metric = "leastconns", health = "tcp", backup;
  std::vector<std::string> reals;
  std::optional<unsigned> slow_start;
};

struct Service {
  unsigned line = 0;
  unsigned port = 0;
  std::string group{};
  std::optional<unsigned> server_port{}, timeout_minutes{}, sticky_minutes{};
  bool sticky = false;
};

struct Virtual {
  unsigned line = 0;
  bool enabled = false;
  std::string address;
  std::string name;
  std::vector<Service> services;
};

/// Reads a dump line by line. A path ("/c/slb/real 1/rip 10.0.0.1") sets where one is, and may end
/// with a command; lines without a slash are commands there.
class Reader : Importer {
 public:
  using Importer::Importer;

  Result<Imported> read(std::string_view text) {
    std::istringstream in{std::string(text)};
    std::string line;
    while (std::getline(in, line)) {
      ++line_;
      take(line);
    }
    if (!slb_) return Error{std::string(file_), "no /c/slb in it: is this an Alteon dump?"};
    for (auto& [index, each] : virtuals_) publish(index, each);
    for (const auto& [index, each] : reals_)
      if (!used_reals_.contains(index))
        leave(each.line, fmt::format("real {}: no service uses it", index));
    return finish("no virtual service in it that is enabled and has servers");
  }

 private:
  using Importer::leave;
  void leave(const std::vector<std::string>& words, std::string_view why) {
    leave(line_, words, why);
  }

  /// Blanks part words, "..." holds them together.
  static std::vector<std::string> split(std::string_view text) {
    std::vector<std::string> words;
    std::string word;
    bool quoted = false, inside = false;
    for (const char each : text) {
      if (each == '"') {
        quoted = !quoted;
        inside = true;
      } else if (!quoted && (each == ' ' || each == '\t' || each == '\r')) {
        if (inside) words.push_back(std::exchange(word, {}));
        inside = false;
      } else {
        word += each;
        inside = true;
      }
    }
    if (inside) words.push_back(word);
    return words;
  }

  void take(std::string_view line) {
    const std::size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos) return;
    line.remove_prefix(begin);
    if (line.substr(0, 2) == "/*" || line.substr(0, 6) == "script") return;
    if (line.front() != '/') return command(split(line));
    go_to(line);
  }

  /// The parts of a path between slashes; a name in quotes may hold one.
  static std::vector<std::string> parts(std::string_view path) {
    std::vector<std::string> out;
    std::string part;
    bool quoted = false;
    for (const char each : path.substr(1)) {
      quoted = each == '"' ? !quoted : quoted;
      if (each == '/' && !quoted)
        out.push_back(std::exchange(part, {}));
      else
        part += each;
    }
    out.push_back(part);
    return out;
  }

  void go_to(std::string_view path) {
    const auto all = parts(path);
    where_ = Where::elsewhere;
    if (all.size() < 2 || (all[0] != "c" && all[0] != "cfg")) return;
    if (split(all[1]).empty() || split(all[1])[0] != "slb") {
      const std::string menu = split(all[1]).empty() ? "" : split(all[1])[0];
      if (menus_.insert(menu).second)
        leave(line_, fmt::format("/c/{}: only /c/slb is carried over", menu));
      return;
    }
    slb_ = true;
    where_ = Where::slb;
    for (std::size_t i = 2; i < all.size(); ++i) {
      const auto words = split(all[i]);
      if (words.empty()) continue;
      if (words.size() >= 2 && enter(words)) continue;
      std::string rest = all[i];  // addresses with a prefix length hold a slash
      for (++i; i < all.size(); ++i) rest += "/" + all[i];
      if (where_ == Where::slb && words.size() == 1) {
        where_ = Where::elsewhere;
        if (menus_.insert("slb/" + words[0]).second && words[0] != "on" && words[0] != "adv")
          leave(line_, fmt::format("/c/slb/{}: no counterpart", words[0]));
        return;
      }
      command(split(rest));
    }
  }

  /// Into "real 1", "group 1", "virt 1" or "service 25"; false: it is none of these.
  bool enter(const std::vector<std::string>& words) {
    if (where_ == Where::slb && words[0] == "real") {
      real_ = &reals_[words[1]];
      if (real_->line == 0) real_->line = line_;
      where_ = Where::real;
    } else if (where_ == Where::slb && words[0] == "group") {
      group_ = &groups_[words[1]];
      if (group_->line == 0) group_->line = line_;
      where_ = Where::group;
    } else if (where_ == Where::slb && words[0] == "virt") {
      virtual_ = &virtuals_[words[1]];
      if (virtual_->line == 0) virtual_->line = line_;
      where_ = Where::virt;
    } else if (where_ == Where::virt && words[0] == "service") {
      where_ = Where::elsewhere;
      const auto port = balance_port(words[1]);
      if (!port) {
        leave(words, "neither a port nor a service name");
        return true;
      }
      auto& services = virtual_->services;
      auto at = std::find_if(services.begin(), services.end(),
                             [&port](const Service& each) { return each.port == *port; });
      if (at == services.end())
        at = services.insert(services.end(), Service{.line = line_, .port = *port});
      service_ = static_cast<std::size_t>(at - services.begin());
      where_ = Where::service;
    } else if (where_ == Where::slb && (words[0] == "port" || words[0] == "filt")) {
      where_ = Where::elsewhere;
      if (words[0] == "filt" || menus_.insert("slb/port").second)
        leave(line_, fmt::format("/c/slb/{} {}: no counterpart", words[0],
                                 words[0] == "port" ? "..." : words[1]));
    } else {
      return false;
    }
    return true;
  }

  void command(const std::vector<std::string>& words) {
    if (words.empty()) return;
    switch (where_) {
      case Where::real:
        return real_command(words);
      case Where::group:
        return group_command(words);
      case Where::virt:
        return virtual_command(words);
      case Where::service:
        return service_command(words);
      case Where::slb:
        if (words[0] == "off") leave(words, "SLB is off there, and not here");
        return;
      case Where::elsewhere:
        return;
    }
  }

  /// The number after a command; anything else is left out aloud.
  std::optional<unsigned> figure(const std::vector<std::string>& words) {
    const auto value = words.size() > 1 ? parse_number<unsigned>(words[1]) : std::nullopt;
    if (!value) leave(words, "not a number");
    return value;
  }

  void real_command(const std::vector<std::string>& words) {
    const std::string value = words.size() > 1 ? words[1] : "";
    if (words[0] == "ena" || words[0] == "dis")
      real_->enabled = words[0] == "ena";
    else if (words[0] == "rip")
      real_->address = value;
    else if (words[0] == "name")
      real_->name = value;
    else if (words[0] == "weight")
      real_->weight = figure(words);
    else if (words[0] == "maxcon")
      real_->sessions_max = figure(words);
    else if (words[0] == "inter")
      real_->interval = figure(words);
    else if (words[0] == "retry")
      real_->retry = figure(words);
    else if (words[0] == "restr")
      real_->restore = figure(words);
    else if (words[0] == "tmout")
      real_->timeout_minutes = figure(words);
    else if (words[0] == "backup")
      real_->backup = value;
    else if (words[0] != "ipver" && words[0] != "type")
      leave(words, "no counterpart");
  }

  void group_command(const std::vector<std::string>& words) {
    const std::string value = words.size() > 1 ? words[1] : "";
    if (words[0] == "add")
      group_->reals.push_back(value);
    else if (words[0] == "metric")
      group_->metric = value;
    else if (words[0] == "health")
      group_->health = value;
    else if (words[0] == "backup")
      group_->backup = value;
    else if (words[0] == "name")
      group_->name = value;
    else if (words[0] == "slowstr")
      group_->slow_start = figure(words);
    else if (words[0] == "content")
      leave(words, "probes speak their protocol by themselves; see pools.probe");
    else if (words[0] != "ipver" && words[0] != "type")
      leave(words, "no counterpart");
  }

  void virtual_command(const std::vector<std::string>& words) {
    const std::string value = words.size() > 1 ? words[1] : "";
    if (words[0] == "ena" || words[0] == "dis")
      virtual_->enabled = words[0] == "ena";
    else if (words[0] == "vip")
      virtual_->address = value;
    else if (words[0] == "vname" || words[0] == "name")
      virtual_->name = value;
    else if (words[0] != "ipver")
      leave(words, "no counterpart");
  }

  void service_command(const std::vector<std::string>& words) {
    Service& service = virtual_->services[service_];
    const std::string value = words.size() > 1 ? words[1] : "";
    if (words[0] == "group")
      service.group = value;
    else if (words[0] == "rport")
      service.server_port = figure(words);
    else if (words[0] == "tmout")
      service.timeout_minutes = figure(words);
    else if (words[0] == "ptmout")
      service.sticky_minutes = figure(words);
    else if (words[0] == "pbind" && value == "clientip")
      service.sticky = true;
    else if (words[0] == "pbind" && (value == "disable" || value == "dis"))
      service.sticky = false;
    else if (words[0] == "pbind")
      leave(words, "only clientip has a counterpart (sticky)");
    else if (words[0] == "protocol" && value == "udp")
      leave(words, "only TCP");
    else if (words[0] != "dbind" && words[0] != "direct" && words[0] != "protocol")
      leave(words, "no counterpart");
  }

  // ---- out

  void publish(const std::string& index, const Virtual& from) {
    const std::string what = fmt::format("virt {}", index);
    if (!from.enabled) return leave(from.line, what + ": is not enabled");
    if (!Address::from_ip(from.address))
      return leave(from.line, fmt::format("{}: vip \"{}\" is not an address", what, from.address));
    for (const Service& each : from.services) {
      const auto group = groups_.find(each.group.empty() ? "1" : each.group);
      if (group == groups_.end()) {
        leave(each.line, fmt::format("{}, service {}: there is no group {}", what, each.port,
                                     each.group.empty() ? "1" : each.group));
        continue;
      }
      const std::string base = from.name.empty() ? "virt" + index : from.name;
      const std::string name = fresh_name(fmt::format("{}-{}", base, each.port), service_names_);
      unsigned idle = each.timeout_minutes.value_or(0);
      const std::string pool = add_pool(group->first, group->second, each, idle);
      if (pool.empty()) {
        leave(each.line, fmt::format("{}, service {}: group {} has no server with an address", what,
                                     each.port, group->first));
        continue;
      }
      Members service;
      service.set_text("name", name);
      service.set(
          "listen",
          fmt::format(
              "[{}]",
              json_text(
                  Address::from_ip(from.address, static_cast<std::uint16_t>(each.port))->text())));
      service.set_text("protocol", protocol_of_port(each.port));
      service.set_text("pool", pool);
      if (idle > 0) service.set_in("timeouts", "idle", json_text(fmt::format("{}m", idle)));
      draft_.services.push_back(std::move(service));
    }
  }

  std::string scheduler_of(const Group& group) {
    static const std::map<std::string, std::string> all{
        {"leastconns", "least_conn"}, {"roundrobin", "round_robin"}, {"hash", "source_hash"},
        {"phash", "source_hash"},     {"minmisses", "maglev"},       {"svcleast", "least_conn"}};
    const auto at = all.find(group.metric);
    if (at != all.end()) return at->second;
    leave(group.line,
          fmt::format("metric {}: has no counterpart; least_conn stands for it", group.metric));
    return "least_conn";
  }

  void add_probe(Draft::Pool& pool, const Group& group, std::string_view protocol) {
    const std::string& health = group.health;
    if (health == "tcp" || health == "icmp" || health == "arp" || health == "link") {
      if (health != "tcp")
        leave(group.line,
              fmt::format("health {}: servers are not pinged; they are connected to", health));
      if (protocol != "tcp") pool.keys.set_in("probe", "type", "\"tcp\"");
    } else if (health == "smtp" || health == "imap" || health == "pop3") {
      if (protocol == "tcp") pool.keys.set_in("probe", "type", json_text(health));
    } else {
      leave(group.line,
            fmt::format("health {}: has no counterpart; the protocol's own probe stands for it",
                        health));
    }
  }

  /// One pool for each service: its port and stickiness are the pool's here. Its name, or nothing
  /// when nobody is in it. `idle`: what the servers say joins it.
  std::string add_pool(const std::string& index, const Group& group, const Service& service,
                       unsigned& idle) {
    Draft::Pool pool;
    const unsigned port = service.server_port.value_or(service.port);
    const std::string base = group.name.empty() ? "group" + index : group.name;
    const std::string name = fresh_name(fmt::format("{}-{}", base, service.port), pool_names_);
    pool.keys.set_text("name", name);
    pool.keys.set_text("scheduler", scheduler_of(group));
    if (service.sticky) {
      stick_to_source(pool);
      if (service.sticky_minutes && *service.sticky_minutes > 0)
        pool.keys.set_in("sticky", "ttl", json_text(fmt::format("{}m", *service.sticky_minutes)));
    }
    if (group.slow_start && *group.slow_start > 0)
      pool.keys.set_text("slow_start", fmt::format("{}s", *group.slow_start));
    add_probe(pool, group, protocol_of_port(service.port));
    std::vector<std::string> names;
    std::set<std::string> inside;
    std::vector<std::string> backups;
    if (!group.backup.empty() && group.backup != "none") backups.push_back(group.backup);
    for (const std::string& each : group.reals) add_real(each, port, 0, pool, names, inside, idle);
    for (const std::string& each : group.reals)
      if (const auto at = reals_.find(each);
          at != reals_.end() && !at->second.backup.empty() && at->second.backup != "none") {
        backups.push_back("r" + at->second.backup);
        leave(
            at->second.line,
            fmt::format("real {}: backup {} serves when all of tier 0 are down, not this one alone",
                        each, at->second.backup));
      }
    for (const std::string& each : backups) {
      // "r3", "g2", or a bare number of a real server.
      const bool is_group = each.front() == 'g';
      const std::string who = each.substr(each.find_first_of("0123456789") == std::string::npos
                                              ? 0
                                              : each.find_first_of("0123456789"));
      const auto backup_group = groups_.find(who);
      if (is_group && backup_group != groups_.end())
        for (const std::string& member : backup_group->second.reals)
          add_real(member, port, 1, pool, names, inside, idle);
      else
        add_real(who, port, 1, pool, names, inside, idle);
    }
    if (pool.backends.empty()) return "";
    draft_.pools.push_back(std::move(pool));
    return name;
  }

  void add_real(const std::string& index, unsigned port, unsigned tier, Draft::Pool& pool,
                std::vector<std::string>& names, std::set<std::string>& inside, unsigned& idle) {
    const auto at = reals_.find(index);
    if (at == reals_.end() || !inside.insert(index).second) return;
    const Real& real = at->second;
    used_reals_.insert(index);
    const auto address = Address::from_ip(real.address, static_cast<std::uint16_t>(port));
    if (!address)
      return leave(real.line,
                   fmt::format("real {}: rip \"{}\" is not an address", index, real.address));
    Members backend;
    const std::string name = real.name.empty() ? "real" + index : real.name;
    backend.set_text("name", fresh_name(name, names));
    backend.set_text("address", address->text());
    if (!real.enabled)
      backend.set("weight", "0");
    else if (real.weight)
      backend.set("weight", std::to_string(*real.weight));
    if (real.sessions_max) backend.set("max_sessions", std::to_string(*real.sessions_max));
    if (tier > 0) backend.set("tier", std::to_string(tier));
    // One machine, whatever the port: drained in one verb.
    backend.set_text("host", name_of_host(name));
    if (real.interval && *real.interval > 0)
      pool.keys.set_in("probe", "interval", json_text(fmt::format("{}s", *real.interval)));
    if (real.retry) pool.keys.set_in("probe", "fall", std::to_string(*real.retry));
    if (real.restore) pool.keys.set_in("probe", "rise", std::to_string(*real.restore));
    idle = std::max(idle, real.timeout_minutes.value_or(0));
    pool.backends.push_back(std::move(backend));
  }

  static std::string name_of_host(const std::string& name) {
    std::vector<std::string> taken;
    return fresh_name(name, taken);
  }

  enum class Where { elsewhere, slb, real, group, virt, service };

  unsigned line_ = 0;
  Where where_ = Where::elsewhere;
  bool slb_ = false;
  Real* real_ = nullptr;
  Group* group_ = nullptr;
  Virtual* virtual_ = nullptr;
  std::size_t service_ = 0;
  std::map<std::string, Real> reals_;
  std::map<std::string, Group> groups_;
  std::map<std::string, Virtual> virtuals_;
  std::set<std::string> menus_, used_reals_;
};

}  // namespace

Result<Imported> import_alteon(std::string_view text, std::string_view file) {
  return Reader(file).read(text);
}

}  // namespace poise
