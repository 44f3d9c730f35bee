#include "command/probe_command.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <netdb.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <optional>

#include "command/probe_report.h"
#include "config/hostname.h"
#include "config/json_text.h"
#include "config/units.h"
#include "health/dialogue/script.h"
#include "health/foreground.h"
#include "poise/result.h"

namespace poise {
namespace {

using health::Path;
using health::ProbeRequest;
using health::ProbeResult;

constexpr int kExitNotGood = 1, kExitUsage = 2;
constexpr std::size_t kParallel = 5;  ///< of --count

/// Where nobody accepts mail for: RFC 2606. Nothing is ever sent there: the test ends before DATA.
constexpr const char* kElsewhere = "postmaster@example.net";

const std::map<std::string, config::ProbeType> kTypes = [] {
  std::map<std::string, config::ProbeType> types;
  for (std::size_t i = 1; i < config::kProbeTypeNames.size(); ++i)  // 0 is "off"
    types.emplace(config::kProbeTypeNames[i], static_cast<config::ProbeType>(i));
  return types;
}();
const std::map<std::string, config::ProbeTls> kTls{{"none", config::ProbeTls::none},
                                                   {"implicit", config::ProbeTls::implicit},
                                                   {"starttls", config::ProbeTls::starttls}};
const std::map<std::string, config::SendProxy> kSendProxy{
    {"off", config::SendProxy::off}, {"v1", config::SendProxy::v1}, {"v2", config::SendProxy::v2}};

bool speaks_smtp(config::ProbeType type) {
  return type == config::ProbeType::smtp || type == config::ProbeType::submission ||
         type == config::ProbeType::lmtp;
}

Error usage(std::string what) {
  return {"--probe", std::move(what)};
}

/// What contradicts itself; nothing when all is well.
std::optional<Error> contradiction(const ProbeArguments& a, config::ProbeType type) {
  const bool conversation = type != config::ProbeType::tcp && type != config::ProbeType::script;
  if (a.relay_test && a.proxy_doctor)
    return usage("--relay-test and --proxy-doctor: one at a time");
  if ((a.relay_test || a.proxy_doctor) && a.count != 1)
    return usage("--count does not go with --relay-test or --proxy-doctor");
  if (a.relay_test && type != config::ProbeType::smtp && type != config::ProbeType::submission)
    return usage("--relay-test speaks SMTP: say --type smtp or submission");
  if (a.relay_test && !a.login.empty())
    return usage("--relay-test is about strangers: leave out --login");
  if (a.proxy_doctor && !conversation)
    return usage("--proxy-doctor needs a server that answers: not --type tcp or script");
  if (a.proxy_doctor && a.send_proxy != "off")
    return usage("--proxy-doctor tries every header by itself: leave out --send-proxy");
  if (a.tls == "starttls" && !conversation)
    return usage(fmt::format("--type {} has no STARTTLS", a.type));
  if (a.tls == "none" && (a.verify || !a.ca_file.empty() || !a.sni.empty()))
    return usage("--verify, --ca-file and --sni need --tls implicit or starttls");
  if (!a.ca_file.empty() && !std::ifstream(a.ca_file))
    return Error{"--ca-file " + a.ca_file, "cannot be read"};
  if (a.deep && !conversation) return usage(fmt::format("--type {} has no deep tier", a.type));
  if (!a.rcpt.empty() && !speaks_smtp(type))
    return usage("--rcpt is for --type smtp, submission and lmtp");
  if (!a.rcpt.empty() && !a.deep && !a.relay_test) return usage("--rcpt goes with --deep");
  if (a.rcpt.find_first_of("<> \r\n") != std::string::npos)
    return usage("--rcpt is a bare address: user@example.org");
  if (a.login.empty() != a.password_file.empty())
    return usage("--login and --password-file go together");
  if (!a.login.empty() && !a.deep) return usage("--login goes with --deep");
  if (!a.login.empty() && type == config::ProbeType::lmtp) return usage("LMTP has no login");
  if (!a.login.empty() && a.tls == "none" && !a.allow_plain_login)
    return usage(
        "--login without TLS shows the password to the network: say --tls implicit or starttls, or "
        "--allow-plain-login");
  if ((type == config::ProbeType::script) != !a.script.empty())
    return usage("--type script and --script STEP ... go together");
  if (a.count == 0) return usage("--count is at least 1");
  return std::nullopt;
}

Result<std::string> password_from(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!file) return Error{"--password-file " + path, "cannot be read"};
  std::getline(file, line);
  if (line.ends_with('\r')) line.pop_back();
  if (line.empty()) return Error{"--password-file " + path, "its first line is empty"};
  return line;
}

/// The probe that the arguments ask for, without the address.
Result<ProbeRequest> request_from(const ProbeArguments& a) {
  ProbeRequest request;
  request.type = kTypes.at(a.type);
  if (auto error = contradiction(a, request.type)) return *error;
  request.tls = kTls.at(a.tls);
  request.send_proxy = kSendProxy.at(a.send_proxy);
  request.sni = a.sni;
  request.verify = a.verify;
  request.ca_file = a.ca_file;
  request.deep = a.deep;
  request.steps.rcpt = a.rcpt;
  request.steps.login_user = a.login;
  request.steps.allow_plain_login = a.allow_plain_login;
  request.hostname = a.hostname.empty() ? config::machine_hostname() : a.hostname;
  if (!config::is_host_name(request.hostname))
    return Error{"--hostname " + a.hostname, "is not a host name"};
  if (!a.sni.empty() && !config::is_host_name(a.sni) && !Address::from_ip(a.sni))
    return Error{"--sni " + a.sni, "is not a host name"};
  if (!a.login.empty()) {
    auto password = password_from(a.password_file);
    if (!password) return password.error();
    request.steps.login_password = *password;
  }
  if (!a.source.empty()) {
    request.source_address = Address::from_ip(a.source);
    if (!request.source_address) return Error{"--source " + a.source, "is not an IP address"};
  }
  const auto timeout = config::parse_duration(a.timeout);
  if (!timeout) return Error{"--timeout " + a.timeout, timeout.error().what};
  if (timeout->count() == 0) return Error{"--timeout " + a.timeout, "must be more than nothing"};
  request.timeout = *timeout;
  for (const std::string& text : a.script) {
    auto step = health::parse_script_step(text);
    if (!step) return Error{"--script " + step.error().where, step.error().what};
    request.script.push_back(*step);
  }
  request.keep_transcript = a.count == 1;
  return request;
}

/// The first address of the endpoint's name; the error is the resolver's.
Result<Address> resolve(const config::Endpoint& endpoint) {
  if (endpoint.literal) return *endpoint.literal;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(endpoint.host.c_str(), nullptr, &hints, &found); error != 0)
    return Error{endpoint.host, ::gai_strerror(error)};
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, &::freeaddrinfo);
  sockaddr_storage storage{};
  std::memcpy(&storage, found->ai_addr, found->ai_addrlen);
  Address address = Address::from_sockaddr(storage);
  address.port = endpoint.port;
  return address;
}

// The three things that can be asked

int probe(const ProbeArguments& arguments, const ProbeRequest& request, bool resolved,
          const std::string& why_not) {
  std::vector<ProbeResult> results(1);
  if (resolved) {
    results = health::run_probes(std::vector<ProbeRequest>(arguments.count, request), kParallel);
  } else {
    results[0].outcome = ProbeOutcome::dns;
    results[0].words = why_not;
    results[0].step = "dns";
  }
  if (arguments.count == 1 || !resolved) {
    fmt::print("{}\n", arguments.json ? json_of(arguments.address, request, results[0])
                                      : text_of(arguments.address, request, results[0]));
    return results[0].good() ? 0 : kExitNotGood;
  }
  fmt::print("{}\n", arguments.json ? json_of_many(arguments.address, results)
                                    : text_of_many(arguments.address, results));
  return std::all_of(results.begin(), results.end(), [](const auto& r) { return r.good(); })
             ? 0
             : kExitNotGood;
}

int relay_test(const ProbeArguments& arguments, ProbeRequest request) {
  request.deep = true;
  if (request.steps.rcpt.empty()) request.steps.rcpt = kElsewhere;
  const bool v1 = request.send_proxy == config::SendProxy::v1;
  const char* const version = v1 ? "v1" : "v2";
  std::vector<Path> paths;
  request.send_proxy = config::SendProxy::off;
  paths.push_back({"our own address, no header", request, {}});
  request.send_proxy = v1 ? config::SendProxy::v1 : config::SendProxy::v2;
  paths.push_back({fmt::format("our own address, PROXY {}", version), request, {}});
  request.proxy_claim = health::stranger(request.address.is_v4(), request.address);
  paths.push_back(
      {fmt::format("PROXY {} as {}", version, request.proxy_claim->first.ip_text()), request, {}});
  run(paths);
  const RelayVerdict verdict = judge_relay(paths);
  fmt::print("{}\n", arguments.json
                         ? json_of(arguments.address, paths, verdict.good, verdict.sentence)
                         : text_of(arguments.address, paths, verdict.sentence));
  return verdict.good ? 0 : kExitNotGood;
}

int proxy_doctor(const ProbeArguments& arguments, const ProbeRequest& request) {
  std::vector<Path> paths = health::header_paths(request);
  run(paths);
  const health::HeaderVerdict verdict = health::judge_headers(paths);
  fmt::print("{}\n", arguments.json
                         ? json_of(arguments.address, paths, verdict.good, verdict.sentence)
                         : text_of(arguments.address, paths, verdict.sentence));
  return verdict.good ? 0 : kExitNotGood;
}

}  // namespace

void add_probe_options(CLI::App& app, ProbeArguments& a) {
  const std::string group = "Probe a server by hand";
  CLI::Option* const probe =
      app.add_option("--probe", a.address,
                     "Probe this server once, print the dialogue and exit: 0 good, 1 not good")
          ->type_name("ADDRESS:PORT")
          ->group(group);
  const auto option = [&](const char* name, auto& value, const char* text) {
    return app.add_option(name, value, text)->needs(probe)->group(group);
  };
  const auto flag = [&](const char* name, bool& value, const char* text) {
    app.add_flag(name, value, text)->needs(probe)->group(group);
  };
  const auto names = [](const auto& map) {
    std::vector<std::string> words;
    for (const auto& entry : map) words.push_back(entry.first);
    return CLI::IsMember(words);
  };
  option("--type", a.type, "What it speaks")->check(names(kTypes));
  option("--tls", a.tls, "TLS from the start, by STARTTLS, or none")->check(names(kTls));
  option("--sni", a.sni, "Server name to ask for and to verify");
  flag("--verify", a.verify, "A certificate that does not pass is not good");
  option("--ca-file", a.ca_file, "CAs to trust (PEM); default: the system's");
  flag("--deep", a.deep, "More than the greeting: EHLO, CAPABILITY, and what is asked for below");
  option("--rcpt", a.rcpt, "With --deep: MAIL FROM:<>, RCPT TO:<this>, RSET");
  option("--login", a.login, "With --deep: log in as this user");
  option("--password-file", a.password_file, "Its first line is the password");
  flag("--allow-plain-login", a.allow_plain_login, "Log in without TLS");
  option("--timeout", a.timeout, "For everything up to the verdict")->capture_default_str();
  option("--send-proxy", a.send_proxy, "Send a PROXY header")->check(names(kSendProxy));
  option("--hostname", a.hostname, "Our name in EHLO; default: this machine's");
  option("--source", a.source, "Our address");
  option("--script", a.script, "With --type script: steps send:TEXT and expect:TEXT, in order");
  option("--count", a.count, "So many probes, 5 at a time, and a summary");
  flag("--json", a.json, "Print one JSON object");
  flag("--relay-test", a.relay_test,
       "Does it relay for strangers who come this way? MAIL, RCPT elsewhere, never DATA");
  flag("--proxy-doctor", a.proxy_doctor,
       "Which PROXY headers does it take, and which setting is missing on which side");
}

int run_probe_command(const ProbeArguments& given) {
  ProbeArguments arguments = given;
  const auto wrong = [](const Error& error) {
    fmt::print(stderr, "poised: {}\n", error.text());
    return kExitUsage;
  };
  if (arguments.type.empty()) {
    if (!arguments.relay_test)
      return wrong(
          usage("say what the server speaks: --type smtp, submission, lmtp, imap, pop3, "
                "managesieve, tcp or script"));
    arguments.type = "smtp";
  }
  const auto endpoint = config::parse_endpoint(arguments.address, 25, false);
  if (!endpoint) return wrong({"--probe " + arguments.address, endpoint.error().what});
  auto request = request_from(arguments);
  if (!request) return wrong(request.error());
  const auto address = resolve(*endpoint);
  if (!address) return probe(arguments, *request, false, address.error().text());
  request->address = *address;
  if (request->source_address && request->source_address->family != address->family)
    return wrong({"--source " + arguments.source,
                  fmt::format("does not go with the server's address {}", address->ip_text())});
  // A name that was asked for is what its certificate should be for.
  if (request->tls != config::ProbeTls::none && request->sni.empty() && !endpoint->literal)
    request->sni = endpoint->host;
  if (arguments.relay_test) return relay_test(arguments, std::move(*request));
  if (arguments.proxy_doctor) return proxy_doctor(arguments, std::move(*request));
  return probe(arguments, *request, true, {});
}

}  // namespace poise
