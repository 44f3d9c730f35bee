#include <algorithm>

#include "config/keys.h"
#include "poise/check.h"

namespace poise::config {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using namespace std::chrono_literals;

constexpr std::int64_t kCountMax =
    100'000'000;  ///< sessions, entries: far beyond any machine, far from overflow

/// Defaults that follow the protocol, by the rows of the contract's table.
struct Row {
  Json smtp, lmtp, submission, imap, pop3, tcp;
};

std::function<Json(Protocol)> by_protocol(Row row) {
  return [row = std::move(row)](Protocol protocol) -> Json {
    switch (protocol) {
      case Protocol::smtp:
        return row.smtp;
      case Protocol::lmtp:
        return row.lmtp;
      case Protocol::submission:
      case Protocol::smtps:
        return row.submission;
      case Protocol::imap:
      case Protocol::imaps:
      case Protocol::managesieve:
        return row.imap;
      case Protocol::pop3:
      case Protocol::pop3s:
        return row.pop3;
      case Protocol::tcp:
        return row.tcp;
    }
    CHECK(false);
    return {};
  };
}

std::string quoted_error(const Node& node, const Error& error) {
  return fmt::format("{}: {}", quote(node.text), error.what);
}

const TextRule kHostName{is_host_name, "not a valid host name", ""};

bool is_account(std::string_view text) {
  return text.size() <= 32 && (text.empty() || text.front() != '-') &&
         (text.empty() || is_name(text));
}

bool is_absolute_path_or_empty(std::string_view text) {
  return text.empty() || (text.front() == '/' && text.size() < 4096);
}

bool is_congestion_name(std::string_view text) {
  return !text.empty() && text.size() <= 15 &&  // TCP_CA_NAME_MAX with its NUL
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string_view::npos;
}

template <class T>
Key<T> congestion(std::string T::*member, std::string doc) {
  return text<T>("congestion", member,
                 {is_congestion_name,
                  "a congestion control has small letters, digits, '_' and '-', 15 at most; or "
                  "\"system\"",
                  "^[a-z0-9_-]{1,15}$"},
                 std::move(doc))
      .initially("system");
}

template <class T>
Key<T> path(std::string name, std::string T::*member, std::string doc) {
  return text<T>(std::move(name), member,
                 {is_absolute_path_or_empty, "not an absolute path", "^(/.*)?$"}, std::move(doc))
      .initially("");
}

/// The port shown in suggestions.
std::uint16_t example_port(const Reader& reader) {
  return usual_port(reader.protocol);
}

// --- admin, log, shutdown
// -------------------------------------------------------------------------------------------

Key<Admin> admin_socket_key() {
  Key<Admin> key = make_key<Admin>("socket", {{"type", "string"}, {"pattern", "^(off|/.*)?$"}},
                                   "path of the control socket; \"off\": none");
  key.read = [](Reader& reader, const Node& node, Admin& out) {
    constexpr std::size_t kPathMax = 107;  // sockaddr_un.sun_path without its NUL
    const auto value = read_string(reader, node, "the path of a socket or \"off\"");
    if (!value) return;
    const bool none = value->empty() || *value == "off";
    if (!none && value->front() != '/')
      return reader.error(node, fmt::format("{}: not an absolute path", quote(*value)));
    if (value->size() > kPathMax) {
      return reader.error(
          node, fmt::format("the path has {} bytes, the kernel takes {}", value->size(), kPathMax));
    }
    out.socket = none ? "" : *value;
  };
  key.print = [](const Printer&, const Admin& admin) {
    return Json(admin.socket.empty() ? "off" : admin.socket);
  };
  return std::move(key).initially("/run/poise/poised.sock");
}

Key<Admin> admin_mode_key() {
  Key<Admin> key = make_key<Admin>("mode", {{"type", "string"}, {"pattern", "^0?[0-7]{3}$"}},
                                   "permissions of the control socket, octal");
  key.read = [](Reader& reader, const Node& node, Admin& out) {
    if (node.kind == Node::Kind::integer) {
      return reader.error(
          node,
          fmt::format("expected octal digits in a string, like \"0660\", got {}", node.describe()));
    }
    const auto value = read_string(reader, node, "octal digits in a string, like \"0660\"");
    if (!value) return;
    const Result<unsigned> mode = parse_mode(*value);
    if (!mode) return reader.error(node, quoted_error(node, mode.error()));
    out.mode = *mode;
  };
  key.print = [](const Printer&, const Admin& admin) { return Json(format_mode(admin.mode)); };
  return std::move(key).initially("0660");
}

Key<Admin> admin_http_key() {
  Key<Admin> key =
      make_key<Admin>("http", {{"type", "string"}},
                      "address of the status page, /metrics and the JSON API; \"off\": none");
  key.read = [](Reader& reader, const Node& node, Admin& out) {
    const auto value = read_string(reader, node, "an address like \"127.0.0.1:9847\" or \"off\"");
    if (!value) return;
    out.http.reset();
    if (value->empty() || *value == "off") return;
    const Result<Endpoint> endpoint = parse_endpoint(*value, 9847, true);
    if (!endpoint) return reader.error(node, quoted_error(node, endpoint.error()));
    if (!endpoint->literal) {
      return reader.error(node,
                          fmt::format("{}: an address is needed here, not a name", quote(*value)));
    }
    out.http = endpoint->literal;
  };
  key.print = [](const Printer&, const Admin& admin) {
    return Json(admin.http ? admin.http->text() : "off");
  };
  return std::move(key).initially("127.0.0.1:9847");
}

const Table<Admin>& admin_keys() {
  static const Table<Admin> table{
      admin_socket_key(),
      admin_mode_key(),
      text("group", &Admin::group, {is_account, "not a group name", ""},
           "group of the control socket; empty: the process's own")
          .initially(""),
      admin_http_key(),
  };
  return table;
}

const Table<Log>& log_keys() {
  static const Table<Log> table{
      word("target", &Log::target,
           {{"journal", LogTarget::journal},
            {"syslog", LogTarget::syslog},
            {"stderr", LogTarget::stderr_}},
           "where log lines go")
          .initially("stderr"),
      word("level", &Log::level,
           {{"debug", LogLevel::debug},
            {"info", LogLevel::info},
            {"warning", LogLevel::warning},
            {"error", LogLevel::error}},
           "the least important lines that are written")
          .initially("info"),
      word("format", &Log::format, {{"text", LogFormat::text}, {"json", LogFormat::json}},
           "form of the lines")
          .initially("text"),
      boolean("session_start", &Log::session_start, "also a line when a session starts")
          .initially(false),
  };
  return table;
}

struct Shutdown {
  milliseconds drain{};
};

const Table<Shutdown>& shutdown_keys() {
  static const Table<Shutdown> table{
      duration("drain", &Shutdown::drain, {.min = 1ms, .max = hours(24), .zero = true},
               "how long sessions may go on after SIGTERM; \"0s\": not at all")
          .initially("30s"),
  };
  return table;
}

/// Shutdown is one member of Config, not a struct of it.
Key<Config> shutdown_key() {
  Key<Config> key =
      make_key<Config>("shutdown", {{"$ref", "#/definitions/shutdown"}}, "how the process ends");
  key.leaf = false;
  key.definition = "shutdown";
  key.nested = [] { return infos(shutdown_keys()); };
  key.read = [](Reader& reader, const Node& node, Config& out) {
    static const Node empty = node_from(Json::object());
    Shutdown shutdown;
    read_members(reader, expect_object(reader, node, false) ? node : empty, shutdown_keys(),
                 shutdown);
    out.shutdown_drain = shutdown.drain;
  };
  key.print = [](const Printer& printer, const Config& config) {
    return print_members(printer, shutdown_keys(), Shutdown{config.shutdown_drain});
  };
  return std::move(key).initially(Json::object());
}

// --- services
// -------------------------------------------------------------------------------------------------------

const Table<Greeting>& greeting_keys() {
  static const Table<Greeting> table{
      duration("timeout", &Greeting::timeout, {.min = 100ms, .max = minutes(30)},
               "how long one backend may take for its greeting")
          .initially_for(by_protocol({"15s", "15s", "15s", "5s", "5s", "0s"})),
      duration("budget", &Greeting::budget, {.min = 100ms, .max = hours(1)},
               "how long a client may wait for a greeting, all tries together")
          .initially_for(by_protocol({"270s", "270s", "60s", "45s", "45s", "0s"})),
      integer("tries", &Greeting::tries, 1, 64,
              "backends contacted for one client at most, failed connects included")
          .initially(3),
      boolean("retry_5xx", &Greeting::retry_5xx,
              "also retry permanent refusals; for pools that never judge clients")
          .initially(false),
  };
  return table;
}

Key<Service> greeting_key() {
  Key<Service> key = make_key<Service>(
      "greeting",
      {{"anyOf", Json::array({Json{{"$ref", "#/definitions/greeting"}}, Json{{"const", "off"}}})}},
      "the greeting gate: what happens until a backend has greeted");
  key.leaf = false;
  key.definition = "greeting";
  key.nested = [] { return infos(greeting_keys()); };
  key.read = [](Reader& reader, const Node& node, Service& out) {
    out.greeting = Greeting{};
    if (is_off(node) || !expect_object(reader, node, true)) return;
    read_members(reader, node, greeting_keys(), out.greeting);
    out.greeting.enabled = reader.protocol != Protocol::tcp;
  };
  key.print = [](const Printer& printer, const Service& service) -> Json {
    if (service.greeting.enabled) return print_members(printer, greeting_keys(), service.greeting);
    if (service.protocol != Protocol::tcp) return "off";
    return {{"tries", service.greeting.tries}};
  };
  return std::move(key).initially(Json::object());
}

const Table<Timeouts>& timeouts_keys() {
  static const Table<Timeouts> table{
      duration("connect", &Timeouts::connect, {.min = 10ms, .max = minutes(10)},
               "a TCP connect to one backend")
          .initially("4s"),
      duration("idle", &Timeouts::idle, {.min = 1s}, "silence both ways when the server spoke last")
          .initially_for(by_protocol({"12m", "12m", "12m", "35m", "12m", "1h"})),
      duration("owed", &Timeouts::owed, {.min = 1s},
               "silence both ways when the client spoke last: the server owes an answer")
          .initially_for(by_protocol({"65m", "65m", "65m", "35m", "35m", "1h"})),
      duration("half_closed", &Timeouts::half_closed, {.min = 1s},
               "silence after one side has finished")
          .initially("5m"),
  };
  return table;
}

const Table<Refusal>& refusal_keys() {
  static const Table<Refusal> table{
      text("text", &Refusal::text,
           {[](std::string_view value) {
              return value.size() <=
                         400 &&  // an SMTP reply line has 512 bytes at most, RFC 5321 4.5.3.1.5
                     std::all_of(value.begin(), value.end(),
                                 [](char c) { return c >= 0x20 && c < 0x7f; });
            },
            "printable ASCII, 400 characters at most", "^[ -~]{0,400}$"},
           "our words in a refusal; empty: the protocol's own")
          .initially(""),
      duration("delay", &Refusal::delay, {.min = 1ms, .max = minutes(5), .zero = true},
               "wait before a refusal")
          .initially("0s"),
  };
  return table;
}

const Table<Limits>& limits_keys() {
  static const Table<Limits> table{
      integer("sessions", &Limits::sessions, 0, kCountMax,
              "sessions at once; 0: what the process can hold")
          .initially(0),
      integer("sessions_per_source", &Limits::sessions_per_source, 0, kCountMax,
              "sessions at once of one source; 0: no limit")
          .initially(0),
      rate("rate_per_source", &Limits::rate_per_source,
           "new sessions of one source; \"0/s\": no limit")
          .initially("0/s"),
      rate("rate", &Limits::rate, "new sessions; \"0/s\": no limit").initially("0/s"),
      integer("source_prefix_v4", &Limits::source_prefix_v4, 1, 32,
              "bits of an IPv4 address that make a source")
          .initially(32),
      integer("source_prefix_v6", &Limits::source_prefix_v6, 1, 128,
              "bits of an IPv6 address that make a source")
          .initially(64),
      networks("except", &Limits::except, "sources without limits"),
      word("mode", &Limits::mode, {{"enforce", LimitMode::enforce}, {"log", LimitMode::log}},
           "log: only say what would be refused")
          .initially("enforce"),
  };
  return table;
}

Key<Service> listen_key() {
  Key<Service> key = make_key<Service>(
      "listen",
      {{"type", "array"},
       {"minItems", 1},
       {"maxItems", kListenMax},
       {"items", {{"type", "string"}, {"pattern", ":[0-9]{1,5}$"}}}},
      "addresses and ports to accept clients on, like [\"0.0.0.0:25\", \"[::]:25\"]");
  key.read = [](Reader& reader, const Node& node, Service& out) {
    if (!expect_list(reader, node,
                     fmt::format("[\"0.0.0.0:{0}\", \"[::]:{0}\"]", example_port(reader)),
                     kListenMax))
      return;
    if (node.items.empty())
      return reader.error(node, "the list is empty; at least one address is needed");
    for (std::size_t i = 0; i < node.items.size() && i < kListenMax; ++i) {
      Reader::Scope scope(reader, i);
      out.listen.emplace_back();  // keeps indices those of the file
      const Node& item = node.items[i];
      const auto value = read_string(reader, item, "an address and a port");
      if (!value) continue;
      const Result<Endpoint> endpoint = parse_endpoint(*value, example_port(reader), true);
      if (!endpoint)
        reader.error(item, quoted_error(item, endpoint.error()));
      else if (!endpoint->literal) {
        reader.error(item, fmt::format("{}: an address is needed here, not a name", quote(*value)));
      } else {
        out.listen.back() = *endpoint->literal;
      }
    }
  };
  key.print = [](const Printer&, const Service& service) {
    Json list = Json::array();
    for (const Address& address : service.listen) list.push_back(address.text());
    return list;
  };
  return std::move(key).needed();
}

Key<Service> pool_key() {
  Key<Service> key =
      make_key<Service>("pool", {{"type", "string"}}, "the name of one of \"pools\"");
  key.read = [](Reader& reader, const Node& node, Service& out) {
    out.pool = SIZE_MAX;
    const auto value = read_string(reader, node, "the name of a pool");
    if (!value || !reader.pool_names) return;
    const std::vector<std::string>& names = *reader.pool_names;
    const auto found = std::find(names.begin(), names.end(), *value);
    if (found != names.end() && !value->empty()) {
      out.pool = static_cast<std::size_t>(found - names.begin());
      return;
    }
    std::vector<std::string> shown;
    std::copy_if(names.begin(), names.end(), std::back_inserter(shown), is_name);
    reader.error(node, fmt::format("unknown pool {}{} (pools: {})", quote(*value),
                                   did_you_mean(*value, shown), enumerate(shown)));
  };
  key.print = [](const Printer& printer, const Service& service) -> Json {
    return service.pool < printer.pools.size() ? Json(printer.pools[service.pool].name)
                                               : not_printed();
  };
  return std::move(key).needed();
}

Key<Service> accept_proxy_key() {
  Key<Service> key =
      make_key<Service>("accept_proxy", {{"enum", Json::array({false, true, "optional"})}},
                        "whether clients send a PROXY header before anything else");
  key.read = [](Reader& reader, const Node& node, Service& out) {
    if (node.kind == Node::Kind::boolean)
      out.accept_proxy = node.boolean ? AcceptProxy::yes : AcceptProxy::no;
    else if (node.kind == Node::Kind::string && node.text == "optional")
      out.accept_proxy = AcceptProxy::optional;
    else
      reader.error(node,
                   fmt::format("expected true, false or \"optional\", got {}", node.describe()));
  };
  key.print = [](const Printer&, const Service& service) -> Json {
    switch (service.accept_proxy) {
      case AcceptProxy::no:
        return false;
      case AcceptProxy::yes:
        return true;
      case AcceptProxy::optional:
        return "optional";
    }
    return not_printed();
  };
  return std::move(key).initially(false);
}

template <class T, class U>
std::function<U&(T&)> part(U T::*member) {
  return [member](T& whole) -> U& { return whole.*member; };
}

}  // namespace

const Table<Service>& service_keys() {
  static const Table<Service> table{
      text("name", &Service::name, kNameRule,
           "the service's name, as in logs, metrics and commands")
          .needed(),
      listen_key(),
      word("protocol", &Service::protocol, words_of<Protocol>(kProtocolNames),
           "what clients speak here; decides defaults")
          .needed(),
      pool_key(),
      word("forwarding", &Service::forwarding,
           {{"proxy", Forwarding::proxy},
            {"ipvs-nat", Forwarding::ipvs_nat},
            {"ipvs-dr", Forwarding::ipvs_dr},
            {"ipvs-tun", Forwarding::ipvs_tun}},
           "who moves the bytes: this process, or the kernel's ip_vs")
          .initially("proxy"),
      word("forwarding_fallback", &Service::forwarding_fallback,
           {{"error", ForwardingFallback::error}, {"proxy", ForwardingFallback::proxy}},
           "what happens where the kernel has no ip_vs")
          .initially("error"),
      accept_proxy_key(),
      networks("trusted_proxies", &Service::trusted_proxies, "who may send a PROXY header"),
      greeting_key(),
      word("early_talk", &Service::early_talk,
           {{"pass", EarlyTalk::pass}, {"hold", EarlyTalk::hold}, {"refuse", EarlyTalk::refuse}},
           "what happens to clients that speak before the server's greeting")
          .initially_for(by_protocol({"pass", "hold", "hold", "hold", "hold", "pass"})),
      object("timeouts", part(&Service::timeouts), &timeouts_keys, "timeouts",
             "how long a session may be silent"),
      duration("keepalive", &Service::keepalive,
               {.min = 1s, .max = hours(9), .zero = true, .whole_seconds = true},
               "TCP keepalive after that much silence; \"0s\": off")  // the kernel's most: 32767 s
          .initially("5m"),
      duration("user_timeout", &Service::user_timeout, {.min = 1s, .zero = true},
               "how long sent bytes may stay unacknowledged; \"0s\": the system's")
          .initially("2m"),
      congestion(&Service::congestion,
                 "congestion control towards clients; \"system\": the machine's"),
      object("refusal", part(&Service::refusal), &refusal_keys, "refusal",
             "what clients that can't be served are told"),
      networks("allow", &Service::allow, "only these clients are served; empty: all"),
      networks("deny", &Service::deny, "these clients are refused"),
      word(
          "deny_reply", &Service::deny_reply,
          {{"554", DenyReply::reply_554}, {"421", DenyReply::reply_421}, {"drop", DenyReply::drop}},
          "what denied clients are told: permanent, temporary, or nothing")
          .initially("554"),
      object("limits", part(&Service::limits), &limits_keys, "limits", "how much clients may use"),
  };
  return table;
}

namespace {

// --- pools
// ----------------------------------------------------------------------------------------------------------

const Table<Sticky>& sticky_keys() {
  static const Table<Sticky> table = [] {
    Key<Sticky> by =
        make_key<Sticky>("by", {{"enum", {"source"}}}, "what makes sessions belong together");
    by.words = {"source"};
    by.read = [words = by.words](Reader& reader, const Node& node, Sticky&) {
      static_cast<void>(read_word(reader, node, words));
    };
    by.print = [](const Printer&, const Sticky&) { return Json("source"); };
    return Table<Sticky>{
        std::move(by).initially("source"),
        integer("prefix_v4", &Sticky::prefix_v4, 1, 32,
                "bits of an IPv4 address that make a source")
            .initially(24),
        integer("prefix_v6", &Sticky::prefix_v6, 1, 128,
                "bits of an IPv6 address that make a source")
            .initially(64),
        duration("ttl", &Sticky::ttl, {.min = 1s},
                 "how long a source is remembered after its last session")
            .initially("12h"),
        integer("entries", &Sticky::entries, 1, 10'000'000, "sources remembered at most")
            .initially(100000),
        number("max_share", &Sticky::max_share, 0, 1,
               "most of a pool's sticky sources one backend may have; 0: no limit")
            .initially(0),
        networks("except", &Sticky::except, "sources that are spread instead"),
    };
  }();
  return table;
}

const Table<Queue>& queue_keys() {
  static const Table<Queue> table{
      integer("length", &Queue::length, 1, 1'000'000,
              "clients that may wait while every backend is full")
          .initially(1000),
      duration("timeout", &Queue::timeout, {.min = 1ms, .max = hours(1)}, "how long each may wait")
          .initially("30s"),
  };
  return table;
}

const Table<Passive>& passive_keys() {
  static const Table<Passive> table{
      integer("fall", &Passive::fall, 1, 1000, "failed connects in a row that eject a backend")
          .initially(3),
      duration("window", &Passive::window, {.min = 100ms, .max = hours(1)}, "within this time")
          .initially("10s"),
      number("max_ejected", &Passive::max_ejected, 0, 1, "share of a pool that may be ejected")
          .initially(0.5),
  };
  return table;
}

const Table<ProbeDeep>& login_keys() {
  static const Table<ProbeDeep> table{
      text("user", &ProbeDeep::login_user,
           {[](std::string_view value) { return value.size() <= 255; }, "255 bytes at most", ""},
           "who logs in; empty: no login")
          .initially(""),
      path("password_file", &ProbeDeep::login_password_file, "the file that holds the password"),
  };
  return table;
}

const Table<ProbeDeep>& deep_keys() {
  static const Table<ProbeDeep> table{
      duration("interval", &ProbeDeep::interval, {.min = 1s}, "time between two deep probes")
          .initially("5m"),
      boolean("ehlo", &ProbeDeep::ehlo, "greet with EHLO or LHLO (SMTP, LMTP)").initially(true),
      text("rcpt", &ProbeDeep::rcpt,
           {[](std::string_view value) {
              return value.empty() ||
                     (value.size() <= 254 && value.find('@') != std::string_view::npos &&
                      value.find_first_of(" <>") == std::string_view::npos);
            },
            "not a mail address", ""},
           "a recipient to ask for (SMTP, LMTP); nothing is sent to it; empty: none")
          .initially(""),
      object<ProbeDeep, ProbeDeep>(
          "login", [](ProbeDeep& deep) -> ProbeDeep& { return deep; }, &login_keys, "login",
          "a login to try"),
  };
  return table;
}

const Table<Probe>& probe_keys() {
  static const Table<Probe> table{
      word("type", &Probe::type,
           {{"smtp", ProbeType::smtp},
            {"submission", ProbeType::submission},
            {"lmtp", ProbeType::lmtp},
            {"imap", ProbeType::imap},
            {"pop3", ProbeType::pop3},
            {"managesieve", ProbeType::managesieve},
            {"tcp", ProbeType::tcp}},
           "the dialogue")
          .initially_for([](Protocol protocol) -> Json {
            if (protocol == Protocol::managesieve) return "managesieve";
            return by_protocol({"smtp", "lmtp", "submission", "imap", "pop3", "tcp"})(protocol);
          }),
      duration("interval", &Probe::interval, {.min = 100ms, .max = hours(24)},
               "between probes of a backend that is up")
          .initially("10s"),
      duration("fast_interval", &Probe::fast_interval, {.min = 100ms, .max = hours(24)},
               "between probes in doubt")
          .initially("2s"),
      duration("down_interval", &Probe::down_interval, {.min = 100ms, .max = hours(24)},
               "between probes of a backend that is down")
          .initially("10s"),
      duration("timeout", &Probe::timeout, {.min = 100ms, .max = minutes(10)},
               "how long one probe may take")
          .initially("10s"),
      integer("rise", &Probe::rise, 1, 100, "good probes in a row that make a backend up")
          .initially(2),
      integer("fall", &Probe::fall, 1, 100, "bad probes in a row that make a backend down")
          .initially(3),
      word("tls", &Probe::tls,
           {{"none", ProbeTls::none},
            {"implicit", ProbeTls::implicit},
            {"starttls", ProbeTls::starttls}},
           "TLS from the first byte, by STARTTLS (STLS), or not")
          .initially_for([](Protocol protocol) -> Json {
            return is_implicit_tls(protocol) ? "implicit" : "none";
          }),
      text("sni", &Probe::sni,
           {[](std::string_view value) { return value.empty() || is_host_name(value); },
            "not a valid host name", ""},
           "server name sent in TLS; empty: none")
          .initially(""),
      boolean("verify", &Probe::verify, "whether the certificate must be valid").initially(false),
      path("ca_file", &Probe::ca_file, "certificates to verify against; empty: the system's"),
      word("send_proxy", &Probe::send_proxy,
           {{"off", ProbeSendProxy::off},
            {"v1", ProbeSendProxy::v1},
            {"v2", ProbeSendProxy::v2},
            {"as_traffic", ProbeSendProxy::as_traffic}},
           "PROXY header of the probe")
          .initially("as_traffic"),
      word("busy", &Probe::busy, {{"down", ProbeBusy::down}, {"no_new", ProbeBusy::no_new}},
           "what a backend is that says it is busy (421, BYE)")
          .initially("no_new"),
      object_or_off<Probe, ProbeDeep>(
          "deep",
          [](Probe& probe) -> ProbeDeep& {
            probe.deep.enabled = true;
            return probe.deep;
          },
          [](const Probe& probe) { return probe.deep.enabled; },
          [](Probe& probe) { probe.deep = ProbeDeep{}; }, &deep_keys, "deep",
          "a seldom, longer dialogue"),
  };
  return table;
}

Key<Pool> source_address_key() {
  Key<Pool> key = make_key<Pool>(
      "source_address",
      {{"anyOf",
        Json::array({Json{{"type", "string"}},
                     Json{{"type", "array"}, {"minItems", 1}, {"items", {{"type", "string"}}}}})}},
      "our address towards backends: \"auto\", an address, a list of them, or \"client\" "
      "(transparent)");
  key.read = [](Reader& reader, const Node& node, Pool& out) {
    constexpr std::size_t kAddressesMax = 256;
    constexpr const char* kExpected = "\"auto\", \"client\", an address or a list of addresses";
    SourceAddress source;
    const auto add = [&](const Node& item, const char* expected) {
      const auto value = read_string(reader, item, expected);
      if (!value) return;
      const auto address = Address::from_ip(*value);
      if (!address || address->is_any()) {
        return reader.error(
            item, fmt::format("{}: expected {}, without a port", quote(*value), expected));
      }
      source.addresses.push_back(*address);
    };
    if (node.kind == Node::Kind::array) {
      if (!expect_list(reader, node, "", kAddressesMax)) return;
      if (node.items.empty())
        return reader.error(node, "the list is empty; write \"auto\" to let the kernel choose");
      for (std::size_t i = 0; i < node.items.size() && i < kAddressesMax; ++i) {
        Reader::Scope scope(reader, i);
        add(node.items[i], "an address");
      }
    } else if (node.kind == Node::Kind::string && node.text == "client") {
      source.client = true;
    } else if (node.kind != Node::Kind::string || node.text != "auto") {
      add(node, kExpected);
    }
    out.source_address = source;
  };
  key.print = [](const Printer&, const Pool& pool) -> Json {
    if (pool.source_address.client) return "client";
    if (pool.source_address.addresses.empty()) return "auto";
    Json list = Json::array();
    for (const Address& address : pool.source_address.addresses) list.push_back(address.ip_text());
    return list.size() == 1 ? list[0] : list;
  };
  return std::move(key).initially("auto");
}

/// A word, or a list of words: one a tier, the last one for all tiers above.
Key<Pool> scheduler_key() {
  Key<Pool> one =
      word("scheduler", &Pool::scheduler, words_of<Scheduler>(kSchedulerNames),
           "the rule that picks a backend; a list has one rule a tier, the last for all "
           "tiers above");
  Key<Pool> key = one;
  key.schema = {
      {"anyOf",
       Json::array({one.schema, Json{{"type", "array"}, {"minItems", 1}, {"items", one.schema}}})}};
  key.read = [one](Reader& reader, const Node& node, Pool& out) {
    out.tier_schedulers.clear();
    if (node.kind != Node::Kind::array) return one.read(reader, node, out);
    if (!expect_list(reader, node, "", kTiersMax)) return;
    if (node.items.empty()) return reader.error(node, "the list is empty; write one rule a tier");
    for (std::size_t tier = 0; tier < node.items.size() && tier < kTiersMax; ++tier) {
      Reader::Scope scope(reader, tier);
      Pool read;
      one.read(reader, node.items[tier], read);
      if (tier == 0)
        out.scheduler = read.scheduler;
      else
        out.tier_schedulers.push_back(read.scheduler);
    }
  };
  key.print = [one](const Printer& printer, const Pool& pool) {
    if (pool.tier_schedulers.empty()) return one.print(printer, pool);
    Json list = Json::array({one.print(printer, pool)});
    for (const Scheduler scheduler : pool.tier_schedulers) {
      Pool tier;
      tier.scheduler = scheduler;
      list.push_back(one.print(printer, tier));
    }
    return list;
  };
  return std::move(key).initially("round_robin");
}

Key<Backend> address_key() {
  Key<Backend> key = make_key<Backend>("address", {{"type", "string"}, {"pattern", ":[0-9]{1,5}$"}},
                                       "the backend's address and port, like \"192.0.2.11:25\"");
  key.read = [](Reader& reader, const Node& node, Backend& out) {
    const auto value = read_string(reader, node, "an address and a port");
    if (!value) return;
    const Result<Endpoint> endpoint = parse_endpoint(*value, example_port(reader), false);
    if (!endpoint) return reader.error(node, quoted_error(node, endpoint.error()));
    if (endpoint->literal) {
      const Address& address = *endpoint->literal;
      const bool multicast = address.is_v4() ? address.ip[0] >= 224 : address.ip[0] == 0xff;
      if (address.is_any() || multicast) {
        return reader.error(node, fmt::format("{}: not the address of one machine", quote(*value)));
      }
    }
    out.address = *value;
    out.literal = endpoint->literal;
    out.host_name = endpoint->literal ? "" : endpoint->host;
    out.port = endpoint->port;
  };
  key.print = [](const Printer&, const Backend& backend) { return Json(backend.address); };
  return std::move(key).needed();
}

const Table<Backend>& backend_keys() {
  static const Table<Backend> table{
      text("name", &Backend::name, kNameRule, "the backend's name, unique in its pool").needed(),
      address_key(),
      // At most 256, as elsewhere in the field: round_robin keeps one period of the weights as a
      // table.
      integer("weight", &Backend::weight, 0, 256, "its share of new sessions; 0: none")
          .initially(1),
      integer("max_sessions", &Backend::max_sessions, 0, kCountMax, "sessions at once; 0: no limit")
          .initially(0),
      rate("connect_rate", &Backend::connect_rate, "new connections; \"0/s\": no limit")
          .initially("0/s"),
      text("host", &Backend::host,
           {[](std::string_view value) { return value.empty() || is_name(value); }, kNameRule.why,
            "^[A-Za-z0-9._-]{0,64}$"},
           "the machine it runs on, for host/NAME in commands; empty: none")
          .initially(""),
      integer("tier", &Backend::tier, 0, kTiersMax - 1,
              "higher tiers are used when lower ones are down")
          .initially(0),
  };
  return table;
}

}  // namespace

const Table<Pool>& pool_keys() {
  static const Table<Pool> table{
      text("name", &Pool::name, kNameRule, "the pool's name, as in logs, metrics and commands")
          .needed(),
      scheduler_key(),
      congestion(&Pool::congestion,
                 "congestion control towards backends; \"system\": the machine's"),
      object_or_off<Pool, Sticky>(
          "sticky",
          [](Pool& pool) -> Sticky& { return pool.sticky ? *pool.sticky : pool.sticky.emplace(); },
          [](const Pool& pool) { return pool.sticky.has_value(); },
          [](Pool& pool) { pool.sticky.reset(); }, &sticky_keys, "sticky",
          "keeps a source on one backend; absent: no")
          .initially("off"),
      object_or_off<Pool, Queue>(
          "queue", part(&Pool::queue), [](const Pool& pool) { return pool.queue.length != 0; },
          [](Pool& pool) { pool.queue = Queue{}; }, &queue_keys, "queue",
          "where clients wait while every backend is full"),
      word("overflow", &Pool::overflow,
           {{"queue", Overflow::queue}, {"next_tier", Overflow::next_tier}},
           "where sessions go when a whole tier is at max_sessions")
          .initially("queue"),
      integer("min_up", &Pool::min_up, 1, kBackendsMax, "backends a tier needs up to be used alone")
          .initially(1),
      boolean("preempt", &Pool::preempt, "whether a lower tier takes over again by itself")
          .initially(true),
      word("when_all_down", &Pool::when_all_down,
           {{"try", WhenAllDown::attempt}, {"refuse", WhenAllDown::refuse}},
           "whether backends that are down are tried when nobody is up")
          .initially("try"),
      word("on_down", &Pool::on_down,
           {{"keep", OnDown::keep}, {"pace", OnDown::pace}, {"close", OnDown::close}},
           "what happens to the sessions of a backend that goes down")
          .initially("pace"),
      word("send_proxy", &Pool::send_proxy,
           {{"off", SendProxy::off}, {"v1", SendProxy::v1}, {"v2", SendProxy::v2}},
           "PROXY header that tells backends the client's address")
          .initially("off"),
      source_address_key(),
      duration("slow_start", &Pool::slow_start, {.min = 1s, .max = hours(24), .zero = true},
               "time in which a returning backend gets its full share again; \"0s\": at once")
          .initially("30s"),
      object_or_off<Pool, Passive>(
          "passive",
          [](Pool& pool) -> Passive& {
            pool.passive.enabled = true;
            return pool.passive;
          },
          [](const Pool& pool) { return pool.passive.enabled; },
          [](Pool& pool) { pool.passive = Passive{}; }, &passive_keys, "passive",
          "what clients' connects say about a backend"),
      object_or_off<Pool, Probe>(
          "probe", part(&Pool::probe),
          [](const Pool& pool) { return pool.probe.type != ProbeType::off; },
          [](Pool& pool) { pool.probe = Probe{}; }, &probe_keys, "probe",
          "how health is found out"),
      objects<Pool, Backend>(
          "backends", &Pool::backends, kBackendsMax, &backend_keys, nullptr, "backend",
          "the servers, like [ { \"name\": \"mx1\", \"address\": \"192.0.2.11:25\" } ]"),
  };
  return table;
}

namespace {

Key<Config> version_key() {
  Key<Config> key = make_key<Config>("version", {{"const", 1}}, "the version of this file format");
  key.read = [](Reader& reader, const Node& node, Config& out) {
    if (node.kind != Node::Kind::integer)
      return reader.error(node, fmt::format("expected 1, got {}", node.describe()));
    if (node.integer != 1)
      return reader.error(node,
                          fmt::format("{} is not a version this program knows: 1", node.text));
    out.version = 1;
  };
  key.print = [](const Printer&, const Config& config) { return Json(config.version); };
  return std::move(key).initially(1);
}

Key<Config> hostname_key() {
  Key<Config> key =
      text("hostname", &Config::hostname, kHostName,
           "our name in refusals and in probes' EHLO; absent: the machine's full name");
  key.read = [read_given = key.read](Reader& reader, const Node& node, Config& out) {
    // The default is the machine's and need not be a valid name; an operator's must be.
    if (reader.reading_defaults())
      out.hostname = reader.hostname;
    else
      read_given(reader, node, out);
  };
  key.initial_is_found = true;
  return std::move(key).initially("");
}

Key<Config> workers_key() {
  static constexpr unsigned kWorkersMax = 256;
  Key<Config> key = make_key<Config>(
      "workers",
      {{"anyOf",
        Json::array({Json{{"const", "auto"}},
                     Json{{"type", "integer"}, {"minimum", 1}, {"maximum", kWorkersMax}}})}},
      "threads that move bytes; \"auto\": one a CPU");
  key.read = [](Reader& reader, const Node& node, Config& out) {
    if (node.kind == Node::Kind::string && node.text == "auto")
      out.workers = 0;
    else if (node.kind == Node::Kind::integer && node.integer >= 1 && node.integer <= kWorkersMax) {
      out.workers = static_cast<unsigned>(node.integer);
    } else {
      reader.error(node, fmt::format("expected \"auto\" or a whole number in 1..{}, got {}",
                                     kWorkersMax, node.describe()));
    }
  };
  key.print = [](const Printer&, const Config& config) {
    return config.workers == 0 ? Json("auto") : Json(config.workers);
  };
  return std::move(key).initially("auto");
}

Key<Config> pair_key() {
  Key<Config> key = object_or_off<Config, Pair>(
      "pair",
      [](Config& config) -> Pair& { return config.pair ? *config.pair : config.pair.emplace(); },
      [](const Config& config) { return config.pair.has_value(); },
      [](Config& config) { config.pair.reset(); }, &pair_keys, "pair",
      "this box and another one with the same file: one has the virtual addresses; absent: alone");
  key.print = [print = key.print](const Printer& printer, const Config& config) {
    return config.pair ? print(printer, config) : not_printed();
  };
  return std::move(key).initially("off");
}

/// For editors that find their schema by it; not part of the configuration.
Key<Config> schema_key() {
  Key<Config> key =
      make_key<Config>("$schema", {{"type", "string"}}, "the place of this schema, for editors");
  key.read = [](Reader& reader, const Node& node, Config&) {
    static_cast<void>(read_string(reader, node, "a string"));
  };
  key.print = [](const Printer&, const Config&) { return not_printed(); };
  return key;
}

}  // namespace

const Table<Config>& config_keys() {
  static const Table<Config> table = [] {
    Key<Config> user = text("user", &Config::user, {is_account, "not a user name", ""},
                            "who the process becomes after its start as root; absent: it stays");
    user.print = [](const Printer&, const Config& config) {
      return config.user.empty() ? not_printed() : Json(config.user);
    };
    return Table<Config>{
        version_key(),
        hostname_key(),
        workers_key(),
        std::move(user),
        object("admin", part(&Config::admin), &admin_keys, "admin",
               "how operators reach the process"),
        object("log", part(&Config::log), &log_keys, "log", "what is written where"),
        shutdown_key(),
        objects<Config, Service>(
            "services", &Config::services, kServicesMax, &service_keys,
            [](Reader& reader, const Node& node, std::size_t) {
              const Node* protocol = node.find("protocol");
              const bool said = protocol != nullptr && protocol->kind == Node::Kind::string;
              reader.protocol =
                  said ? protocol_named(protocol->text).value_or(Protocol::tcp) : Protocol::tcp;
            },
            "service", "what clients connect to"),
        objects<Config, Pool>(
            "pools", &Config::pools, kPoolsMax, &pool_keys,
            [](Reader& reader, const Node&, std::size_t index) {
              reader.protocol = index < reader.pool_protocols.size() ? reader.pool_protocols[index]
                                                                     : Protocol::tcp;
            },
            "pool", "the servers behind services"),
        pair_key(),
        schema_key(),
    };
  }();
  return table;
}

}  // namespace poise::config
