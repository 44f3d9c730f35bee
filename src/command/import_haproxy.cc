#include "command/import_haproxy.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "config/json_text.h"
#include "config/units.h"
#include "poise/address.h"
#include "poise/number.h"

namespace poise {
namespace {

using config::json_text;
using std::chrono::milliseconds;

struct Line {
  unsigned number = 0;
  std::vector<std::string> words;
};

struct Section {
  std::string kind, name;
  unsigned number = 0;  ///< line
  std::string from;     ///< `from NAME` of the defaults it takes
  std::vector<Line> lines;
};

/// Words as haproxy parts them: blanks, '...', "...", \x; a # begins a comment.
std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  bool inside = false;
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char each = text[i];
    if (quote != 0) {
      if (each == quote)
        quote = 0;
      else
        word += each;
      continue;
    }
    if (each == '#') break;
    if (each == '\'' || each == '"') {
      quote = each;
      inside = true;
    } else if (each == '\\' && i + 1 < text.size()) {
      word += text[++i];
      inside = true;
    } else if (each == ' ' || each == '\t' || each == '\r') {
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

/// "4s" "500ms" "1m" "30"; without a unit they are milliseconds.
std::optional<milliseconds> duration(const std::string& text) {
  std::uint64_t value = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc{} || value > 1'000'000'000'000) return std::nullopt;
  const std::string_view unit(end, static_cast<std::size_t>(last - end));
  if (unit == "us") return milliseconds(value / 1000);
  for (const auto& [name, scale] : {std::pair<std::string_view, std::uint64_t>{"", 1},
                                    {"ms", 1},
                                    {"s", 1000},
                                    {"m", 60'000},
                                    {"h", 3'600'000},
                                    {"d", 86'400'000}})
    if (unit == name) return milliseconds(value * scale);
  return std::nullopt;
}

/// An address without haproxy's "ipv4@" or "ipv6@", which it says by itself.
std::string without_family(std::string text) {
  if (text.starts_with("ipv4@") || text.starts_with("ipv6@")) text.erase(0, 5);
  return text;
}

/// What has no meaning here because it is always so, by the option's name.
bool always_so(const std::string& option) {
  static const std::set<std::string> all{"tcplog",
                                         "dontlognull",
                                         "redispatch",
                                         "tcpka",
                                         "clitcpka",
                                         "srvtcpka",
                                         "splice-auto",
                                         "logasap",
                                         "splice-request",
                                         "splice-response",
                                         "tcp-smart-accept",
                                         "tcp-smart-connect",
                                         "log-health-checks",
                                         "contstats"};
  return all.contains(option);
}

/// What sections say, with `defaults` in front.
struct Settings {
  std::map<std::string, milliseconds> timeouts;
  std::string mode = "tcp";
  std::string balance = "roundrobin";
  bool consistent = false;  ///< hash-type consistent
  std::optional<unsigned> sessions_max;
  std::string default_backend;
  std::string source;  ///< "client": transparent
  std::vector<std::string> default_server;
  std::optional<milliseconds> sticky_ttl;
  std::optional<unsigned> sticky_entries;
  bool sticky = false, allbackups = false;
};

class Reader : Importer {
 public:
  using Importer::Importer;

  Result<Imported> read(std::string_view text) {
    if (auto parted = part(text); !parted) return parted.error();
    for (const Section& each : sections_) dispatch(each);
    for (const Section& each : sections_) {
      if (each.kind == "listen") serve(each, each);
      if (each.kind == "frontend") serve_frontend(each);
    }
    for (const auto& [name, section] : backends_)
      if (!used_.contains(name))
        leave(section->number, "backend " + name + ": no frontend uses it");
    return finish("no TCP service in it: a listen or a frontend with bind, servers and mode tcp");
  }

 private:
  using Importer::leave;
  void leave(const Line& line, std::string_view why) { leave(line.number, line.words, why); }

  Result<void> part(std::string_view text) {
    static const std::set<std::string> kinds{
        "global",      "defaults",    "listen",   "frontend",  "backend", "peers",
        "mailers",     "resolvers",   "userlist", "program",   "cache",   "ring",
        "http-errors", "log-forward", "fcgi-app", "crt-store", "traces"};
    unsigned number = 0;
    while (!text.empty()) {
      const std::size_t end = std::min(text.find('\n'), text.size());
      const std::string_view line = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      ++number;
      std::vector<std::string> words = split(line);
      if (words.empty()) continue;
      if (kinds.contains(words[0])) {
        Section section{.kind = words[0], .name = "", .number = number, .from = "", .lines = {}};
        if (words.size() > 1 && words[1] != "from") section.name = words[1];
        for (std::size_t i = 1; i + 1 < words.size(); ++i)
          if (words[i] == "from") section.from = words[i + 1];
        sections_.push_back(std::move(section));
        continue;
      }
      if (sections_.empty())
        return Error{fmt::format("{}:{}", file_, number),
                     fmt::format("\"{}\" stands in no section: is this an haproxy.cfg?", words[0])};
      sections_.back().lines.push_back({number, std::move(words)});
    }
    return {};
  }

  void dispatch(const Section& section) {
    if (section.kind == "defaults") {
      last_defaults_ = &section;
      if (!section.name.empty()) defaults_[section.name] = &section;
      // Once: what has no counterpart is not said again for each section that takes them.
      Settings ignored;
      for (const Line& line : section.lines) setting(line, ignored, true);
    } else if (section.kind == "backend") {
      backends_[section.name] = &section;
    } else if (section.kind == "global") {
      for (const Line& line : section.lines)
        if (line.words[0] == "maxconn")
          leave(line, "limits here are those of services, and descriptors");
    } else if (section.kind != "listen" && section.kind != "frontend") {
      leave(section.number, fmt::format("section {} {}", section.kind, section.name));
    }
    took_[&section] = section.from.empty()               ? last_defaults_
                      : defaults_.contains(section.from) ? defaults_[section.from]
                                                         : nullptr;
  }

  Settings settings_of(const Section& section) {
    Settings settings;
    if (const Section* const defaults = took_[&section])
      for (const Line& line : defaults->lines) setting(line, settings, false);
    for (const Line& line : section.lines) setting(line, settings, said_.insert(&line).second);
    return settings;
  }

  /// One line into `out`; `say`: what has no counterpart is left out aloud.
  void setting(const Line& line, Settings& out, bool say) {
    const auto& words = line.words;
    const std::string& word = words[0];
    const auto second = [&words] { return words.size() > 1 ? words[1] : std::string(); };
    const auto no = [&](std::string_view why) {
      if (say) leave(line, why);
    };
    if (word == "bind" || word == "server" || word == "no" || word == "log" ||
        word == "description" || word == "id" || word == "stats" || word == "errorfile" ||
        word == "log-tag")
      return;  // bind and server are read by themselves; the rest moves no mail
    if (word == "mode") {
      out.mode = second();
    } else if (word == "timeout" && words.size() == 3) {
      if (const auto time = duration(words[2]))
        out.timeouts[words[1]] = *time;
      else
        no("not a time");
    } else if (word == "balance") {
      out.balance = second();
    } else if (word == "hash-type") {
      out.consistent = second() == "consistent";
    } else if (word == "maxconn") {
      if (!(out.sessions_max = parse_number<unsigned>(second()))) no("not a number");
    } else if (word == "default_backend") {
      out.default_backend = second();
    } else if (word == "default-server") {
      out.default_server.insert(out.default_server.end(), words.begin() + 1, words.end());
    } else if (word == "source") {
      source(line, out, say);
    } else if (word == "stick-table") {
      stick_table(line, out, say);
    } else if (word == "stick") {
      if (words.size() >= 3 && (words[1] == "on" || words[1] == "store-request") &&
          words[2] == "src")
        out.sticky = true;
      else
        no("only \"stick on src\" has a counterpart (sticky)");
    } else if (word == "option") {
      option(line, out, say);
    } else if (word == "retries") {
      no("another server is tried at once; greeting.tries says how many");
    } else if (word == "tcp-check") {
      no("probes speak their protocol by themselves; see pools.probe");
    } else if (word == "use_backend") {
      no("rules that choose a pool have no counterpart: one pool a service");
    } else if (word == "disabled") {
      no("the section is off there, and not here");
    } else {
      no("no counterpart");
    }
  }

  void source(const Line& line, Settings& out, bool say) {
    const auto& words = line.words;
    for (std::size_t i = 2; i + 1 < words.size(); ++i)
      if (words[i] == "usesrc" && (words[i + 1] == "clientip" || words[i + 1] == "client")) {
        out.source = "client";
        return;
      }
    if (words.size() == 2 && Address::from_ip(words[1]))
      out.source = words[1];
    else if (say)
      leave(line, "only an address, or usesrc clientip, has a counterpart (source_address)");
  }

  void stick_table(const Line& line, Settings& out, bool say) {
    const auto& words = line.words;
    for (std::size_t i = 1; i + 1 < words.size(); i += 2) {
      if (words[i] == "size") {
        std::string size = words[i + 1];
        unsigned scale = 1;
        if (!size.empty() && (size.back() == 'k' || size.back() == 'm')) {
          scale = size.back() == 'k' ? 1024 : 1024 * 1024;
          size.pop_back();
        }
        if (const auto entries = parse_number<unsigned>(size);
            entries && *entries <= 10'000'000 / scale)
          out.sticky_entries = *entries * scale;
      } else if (words[i] == "expire") {
        out.sticky_ttl = duration(words[i + 1]);
      } else if (words[i] != "type" && say) {
        leave(line, fmt::format("{} has no counterpart", words[i]));
      }
    }
  }

  void option(const Line& line, Settings& out, bool say) {
    const std::string name = line.words.size() > 1 ? line.words[1] : "";
    if (name == "allbackups") {
      out.allbackups = true;
    } else if (name == "smtpchk" || name == "tcp-check" || name == "pgpsql-check" ||
               always_so(name)) {
      return;  // probes speak the service's protocol
    } else if (say) {
      leave(line, "no counterpart");
    }
  }

  // ---- a service and its pool

  void serve_frontend(const Section& section) {
    const Settings settings = settings_of(section);
    if (settings.mode != "tcp") return leave_mode(section, settings);
    const auto backend = backends_.find(settings.default_backend);
    if (backend == backends_.end())
      return leave(section.number,
                   fmt::format("frontend {}: {}", section.name,
                               settings.default_backend.empty()
                                   ? "it has no default_backend"
                                   : "there is no backend " + settings.default_backend));
    used_.insert(backend->first);
    serve(section, *backend->second);
  }

  void leave_mode(const Section& section, const Settings& settings) {
    leave(section.number,
          fmt::format("{} {}: mode {}; only TCP", section.kind, section.name, settings.mode));
  }

  struct Bind {
    std::vector<std::string> listen;
    unsigned port = 0;  ///< of the first
    bool accept_proxy = false;
  };

  Bind binds_of(const Section& section) {
    Bind out;
    for (const Line& line : section.lines) {
      if (line.words[0] != "bind" || line.words.size() < 2) continue;
      if (std::find(line.words.begin(), line.words.end(), "ssl") != line.words.end()) {
        leave(line, "TLS is not ended here; the servers do");
        continue;
      }
      for (std::size_t i = 2; i < line.words.size(); ++i) {
        if (line.words[i] == "accept-proxy") {
          out.accept_proxy = true;
          leave(line, "accept_proxy is set; name those you trust in trusted_proxies");
        } else {
          leave(line, fmt::format("{} has no counterpart", line.words[i]));
          if (i + 1 < line.words.size() && !known_flag(line.words[i])) ++i;
        }
      }
      std::string rest = line.words[1];
      while (!rest.empty()) {
        const std::size_t comma = std::min(rest.find(','), rest.size());
        listen_on(line, rest.substr(0, comma), out);
        rest.erase(0, std::min(comma + 1, rest.size()));
      }
    }
    return out;
  }

  static bool known_flag(const std::string& word) {
    return word == "transparent" || word == "v4v6" || word == "v6only" || word == "defer-accept" ||
           word == "tfo" || word == "strict-sni";
  }

  void listen_on(const Line& line, const std::string& text, Bind& out) {
    const std::size_t colon = text.rfind(':');
    const auto first = colon == std::string::npos ? std::nullopt : port_of(text.substr(colon + 1));
    if (!first)
      return leave(line,
                   fmt::format("{}: expected ADDRESS:PORT; ranges of ports and unix sockets have "
                               "no counterpart",
                               text));
    std::string host = without_family(text.substr(0, colon));
    if (host.empty() || host == "*") host = "0.0.0.0";
    if (host == "::" || host == "[::]") host = "[::]";
    const auto address =
        Address::from_ip(host.front() == '[' ? host.substr(1, host.size() - 2) : host,
                         static_cast<std::uint16_t>(*first));
    if (!address) return leave(line, host + ": not an address");
    out.listen.push_back(address->text());
    if (out.port == 0) out.port = *first;
  }

  static std::optional<unsigned> port_of(const std::string& text) {
    const auto port = parse_number<unsigned>(text);
    return port && *port > 0 && *port < 65536 ? port : std::nullopt;
  }

  void serve(const Section& front, const Section& back) {
    Settings settings = settings_of(back);
    const Settings at_front = settings_of(front);
    if (settings.mode != "tcp") return leave_mode(back, settings);
    const Bind bind = binds_of(front);
    if (bind.listen.empty())
      return leave(front.number, fmt::format("{} {}: no bind that could be carried over",
                                             front.kind, front.name));
    const std::string pool = pool_of(back, settings, bind.port);
    if (pool.empty())
      return leave(front.number, fmt::format("{} {}: no server", front.kind, front.name));

    Members service;
    service.set_text("name", fresh_name(front.name, service_names_));
    std::vector<std::string> listen;
    for (const std::string& each : bind.listen) listen.push_back(json_text(each));
    service.set("listen", fmt::format("[{}]", fmt::join(listen, ", ")));
    service.set_text("protocol", protocol_of_port(bind.port));
    service.set_text("pool", pool);
    if (bind.accept_proxy) {
      service.set("accept_proxy", "true");
      service.set("trusted_proxies", "[\"127.0.0.0/8\"]");
    }
    add_timeouts(service, at_front, settings);
    if (at_front.sessions_max && *at_front.sessions_max > 0)
      service.set_in("limits", "sessions", std::to_string(*at_front.sessions_max));
    draft_.services.push_back(std::move(service));
  }

  static void add_timeouts(Members& service, const Settings& front, const Settings& back) {
    const auto time = [](const Settings& from, const char* name) {
      const auto at = from.timeouts.find(name);
      return at == from.timeouts.end() ? milliseconds(0) : at->second;
    };
    const auto set = [&service](const char* key, milliseconds value) {
      if (value.count() > 0)
        service.set_in("timeouts", key,
                       json_text(config::format_duration(std::min(value, config::kDurationMax))));
    };
    set("connect", time(back, "connect"));
    // There each side has its own; a session that is silent both ways ends at the longer one.
    const milliseconds idle = time(back, "tunnel").count() > 0
                                  ? time(back, "tunnel")
                                  : std::max(time(front, "client"), time(back, "server"));
    set("idle", idle);
    set("half_closed", std::max(time(front, "client-fin"), time(back, "server-fin")));
  }

  static std::string scheduler_of(const Settings& settings) {
    if (settings.balance == "leastconn") return "least_conn";
    if (settings.balance == "source") return settings.consistent ? "maglev" : "source_hash";
    if (settings.balance.rfind("random", 0) == 0) return "random_two";
    if (settings.balance == "roundrobin" || settings.balance == "static-rr") return "round_robin";
    return "";
  }

  /// The name of the pool made of a section's servers; empty: it has none.
  std::string pool_of(const Section& section, const Settings& settings, unsigned port) {
    if (const auto made = pools_.find(&section); made != pools_.end()) return made->second;
    Draft::Pool pool;
    const std::string name = fresh_name(section.name, pool_names_);
    pool.keys.set_text("name", name);
    std::string scheduler = scheduler_of(settings);
    if (scheduler.empty()) {
      leave(section.number, fmt::format("balance {}: has no counterpart; round_robin stands for it",
                                        settings.balance));
      scheduler = "round_robin";
    }
    pool.keys.set_text("scheduler", scheduler);
    if (settings.sticky) {
      stick_to_source(pool);
      if (settings.sticky_ttl)
        pool.keys.set_in("sticky", "ttl", json_text(config::format_duration(*settings.sticky_ttl)));
      if (settings.sticky_entries)
        pool.keys.set_in("sticky", "entries", std::to_string(*settings.sticky_entries));
    }
    if (const auto queue = settings.timeouts.find("queue"); queue != settings.timeouts.end())
      pool.keys.set_in("queue", "timeout", json_text(config::format_duration(queue->second)));
    if (const auto check = settings.timeouts.find("check"); check != settings.timeouts.end())
      pool.keys.set_in("probe", "timeout", json_text(config::format_duration(check->second)));
    if (!settings.source.empty()) pool.keys.set_text("source_address", settings.source);
    unsigned backups = 0;
    std::vector<std::string> names;
    for (const Line& line : section.lines)
      if (line.words[0] == "server") add_server(line, settings, port, pool, names, backups);
    if (pool.backends.empty()) return "";
    if (backups > 1 && !settings.allbackups)
      leave(section.number,
            fmt::format("{} backup servers: there one after the other, here they share the work",
                        backups));
    draft_.pools.push_back(std::move(pool));
    pools_[&section] = name;
    return name;
  }

  void add_server(const Line& line, const Settings& settings, unsigned port, Draft::Pool& pool,
                  std::vector<std::string>& names, unsigned& backups) {
    if (line.words.size() < 3) return leave(line, "a server has a name and an address");
    std::string host = without_family(line.words[2]);
    // A bare IPv6 address has no port that could be told from it.
    if (const auto bare = Address::from_ip(host); bare && bare->family == AF_INET6) {
      host = fmt::format("[{}]:{}", host, port);
    } else if (host.rfind(':') == std::string::npos || host.back() == ']') {
      host += fmt::format(":{}", port);
    }
    const auto endpoint = config::parse_endpoint(host, static_cast<std::uint16_t>(port), false);
    if (!endpoint)
      return leave(line, fmt::format("{}: {}", line.words[2], endpoint.error().text()));
    Members backend;
    backend.set_text("name", fresh_name(line.words[1], names));
    backend.set_text("address", host);
    std::vector<std::string> words = settings.default_server;
    words.insert(words.end(), line.words.begin() + 3, line.words.end());
    for (std::size_t i = 0; i < words.size(); ++i) {
      const std::string& word = words[i];
      const auto value = [&]() -> const std::string& {
        static const std::string none;
        return i + 1 < words.size() ? words[++i] : none;
      };
      if (word == "weight" || word == "maxconn") {
        const auto figure = parse_number<unsigned>(value());
        if (!figure)
          leave(line, word + " is not a number");
        else
          backend.set(word == "weight" ? "weight" : "max_sessions", std::to_string(*figure));
      } else if (word == "backup") {
        backend.set("tier", "1");
        ++backups;
      } else if (word == "disabled") {
        backend.set("weight", "0");
      } else if (word == "inter" || word == "fastinter" || word == "downinter" ||
                 word == "slowstart") {
        const auto time = duration(value());
        if (!time)
          leave(line, word + " is not a time");
        else if (word == "slowstart")
          pool.keys.set_text("slow_start", config::format_duration(*time));
        else
          pool.keys.set_in("probe",
                           word == "inter"       ? "interval"
                           : word == "fastinter" ? "fast_interval"
                                                 : "down_interval",
                           json_text(config::format_duration(*time)));
      } else if (word == "rise" || word == "fall") {
        if (const auto figure = parse_number<unsigned>(value()))
          pool.keys.set_in("probe", word, std::to_string(*figure));
      } else if (word == "send-proxy" || word == "send-proxy-v2") {
        pool.keys.set_text("send_proxy", word == "send-proxy" ? "v1" : "v2");
      } else if (word == "on-marked-down" && i + 1 < words.size()) {
        if (value() == "shutdown-sessions") pool.keys.set_text("on_down", "close");
      } else if (word == "check" || word == "enabled" || word == "no-backup") {
        continue;  // every server is looked after
      } else if (word == "resolvers" || word == "init-addr" || word == "resolve-prefer") {
        static_cast<void>(value());  // names are followed anyway
      } else if (word == "ssl" || word == "check-ssl") {
        leave(line, word + ": TLS goes through from the client to the server, untouched");
      } else {
        leave(line, word + " has no counterpart");
        if (takes_value(word)) ++i;
      }
    }
    pool.backends.push_back(std::move(backend));
  }

  static bool takes_value(const std::string& word) {
    static const std::set<std::string> all{
        "port",        "addr",    "source",   "cookie",    "id",     "observe",       "on-error",
        "error-limit", "minconn", "maxqueue", "track",     "verify", "ca-file",       "crt",
        "sni",         "alpn",    "ciphers",  "namespace", "tcp-ut", "pool-max-conn", "proto"};
    return all.contains(word);
  }

  std::vector<Section> sections_;
  std::map<std::string, const Section*> defaults_, backends_;
  std::map<const Section*, const Section*> took_;  ///< the defaults of each section
  const Section* last_defaults_ = nullptr;
  std::set<const Line*> said_;
  std::set<std::string> used_;
  std::map<const Section*, std::string> pools_;
};

}  // namespace

Result<Imported> import_haproxy(std::string_view text, std::string_view file) {
  return Reader(file).read(text);
}

}  // namespace poise
