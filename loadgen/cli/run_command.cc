#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "loadgen/cli/command.h"
#include "loadgen/client/run_loop.h"
#include "loadgen/client/targets.h"
#include "loadgen/client/workload.h"
#include "loadgen/loop/socket.h"
#include "loadgen/report/html.h"
#include "loadgen/report/report.h"
#include "loadgen/report/threshold.h"
#include "tls/context.h"

namespace poise::loadgen {
namespace {

struct RunOptions {
  std::string workload;
  std::string protocol = "smtp";
  std::string script = "session";
  std::vector<std::string> commands;
  std::vector<std::string> targets;
  std::vector<std::string> sources;
  std::string choice = "turns";
  double first_only = 0;
  double dns_ttl = 0;
  unsigned retries = 0;
  double retry_after = 5;
  std::uint64_t sessions = 0;
  unsigned clients = 16;
  double rate = 0;
  double duration = 0;
  unsigned max_concurrent = 0;
  std::string size = "4KiB";
  std::string tls = "none";
  std::string tls_name;
  std::string ca_file;
  bool tls_verify = false;
  bool auth = false;
  double think = 0;
  std::string helo = "poise-load.test";
  std::string from = "sender@poise-load.test";
  std::string to = "user@poise-load.test";
  unsigned recipients = 1;
  unsigned messages_per_session = 1;
  bool pipelining = false;
  std::string user = "user";
  unsigned users = 1;
  std::string password = "secret";
  double timeout_connect = 30;
  double timeout_greeting = 0;
  double timeout_session = 30;
  std::string run_id;
  std::string ledger;
  std::string json;
  std::string csv;
  std::string html;
  std::vector<std::string> fail_if;
  bool progress = false;
};

/// What an open loop and a closed one need beside the sessions' sockets: the epoll, the signal, the
/// ledger, the standard three.
constexpr std::uint64_t kOtherFds = 32;

[[noreturn]] void refuse(const char* option, const std::string& what) {
  throw CLI::ValidationError(option, what);
}

bool is_word(const std::string& text) {
  return !text.empty() && text.find_first_of(" \t\r\n<>") == std::string::npos;
}

Tls parse_tls(const std::string& text, Protocol protocol) {
  const auto found = std::find(kTlsNames.begin(), kTlsNames.end(), text);
  if (found == kTlsNames.end()) refuse("--tls", "none, starttls or implicit");
  const auto tls = static_cast<Tls>(found - kTlsNames.begin());
  if (!is_implicit_tls(protocol)) return tls;
  if (tls == Tls::starttls)
    refuse("--tls", fmt::format("{} is TLS from the first byte", name_of(protocol)));
  return Tls::implicit;
}

/// The one block that the options describe.
Block make_block(const RunOptions& options) {
  Block block;
  block.script = usual_script(protocol_option(options.protocol));
  Script& script = block.script;
  if (options.script != "session" && options.script != "connect")
    refuse("--script", fmt::format("no script {}; there are session, connect", options.script));
  script.connect_only = options.script == "connect";
  if (!is_word(options.helo)) refuse("--helo", "must be one word");
  if (!is_word(options.from)) refuse("--from", "must be an address without < and >");
  if (!is_word(options.to)) refuse("--to", "must be an address without < and >");
  if (options.user.find_first_of("\r\n") != std::string::npos ||
      options.password.find_first_of("\r\n") != std::string::npos) {
    refuse("--user", "a line break cannot be sent");
  }
  script.tls = parse_tls(options.tls, script.protocol);
  script.tls_name = options.tls_name;
  script.tls_verify = options.tls_verify;
  script.auth = script.auth || options.auth;
  script.helo = options.helo;
  script.sender = options.from;
  script.recipient = options.to;
  script.recipients = options.recipients;
  script.pipelining = options.pipelining;
  script.user = options.user;
  script.users = options.users;
  script.password = options.password;
  if (!options.commands.empty()) script.actions.clear();
  for (const std::string& one : options.commands) {
    if (const Result<void> added = add_action(script.protocol, one, script.actions); !added)
      refuse("--do", added.error().text());
  }
  if (const Result<void> checked = check_actions(script.actions); !checked)
    refuse("--do", checked.error().what);
  if (options.messages_per_session > 1 && is_smtp(script.protocol) && options.commands.empty())
    script.actions.assign(options.messages_per_session, {Action::Verb::message});
  const Result<std::vector<SizeClass>> sizes = parse_sizes(options.size);
  if (!sizes) refuse("--size", sizes.error().text());
  block.sizes = *sizes;
  block.think = nanos(options.think);
  block.patience.connect = nanos(options.timeout_connect);
  block.patience.session = nanos(options.timeout_session);
  // RFC 5321 4.5.3.2.1: five minutes for the greeting. Nobody in front of a mail program waits that
  // long.
  block.patience.greeting = options.timeout_greeting > 0 ? nanos(options.timeout_greeting)
                            : is_smtp(script.protocol)   ? 300 * kSecond
                                                         : 30 * kSecond;
  return block;
}

std::vector<std::string> read_workload_file(const std::string& path, RunPlan& plan) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return {path + ": cannot be read"};
  return read_workload(text.str(), path, plan);
}

/// What the options say goes before what the file says, if it was given at all.
void add_pace(const RunOptions& options, const CLI::App& command, Pace& pace) {
  const auto given = [&](const char* name) { return command.count(name) > 0; };
  if (given("--clients")) pace.clients = options.clients;
  if (given("--rate")) pace.rate = options.rate;
  if (given("--sessions")) pace.sessions = options.sessions;
  if (given("--duration")) pace.duration = nanos(options.duration);
  if (given("--max-concurrent")) pace.max_concurrent = options.max_concurrent;
  const std::uint64_t fds = raise_fd_limit();
  const std::uint64_t room = fds > kOtherFds ? fds - kOtherFds : 1;
  if (pace.rate <= 0 && pace.clients > room) {
    refuse("--clients",
           fmt::format("{} clients need as many file descriptors; the limit is {} (ulimit -n)",
                       pace.clients, fds));
  }
  pace.max_concurrent = static_cast<unsigned>(
      std::min<std::uint64_t>(pace.max_concurrent > 0 ? pace.max_concurrent : UINT32_MAX, room));
}

void add_choice(const RunOptions& options, const CLI::App& command, RunPlan& plan) {
  const auto given = [&](const char* name) { return command.count(name) > 0; };
  if (given("--choose")) {
    const Result<Choice> choice = parse_choice(options.choice);
    if (!choice) refuse("--choose", choice.error().text());
    plan.choice.choice = *choice;
  }
  if (given("--first-only")) plan.choice.first_only = options.first_only / 100;
  if (given("--dns-ttl")) plan.choice.ttl = nanos(options.dns_ttl);
  if (given("--retries")) plan.retry.times = options.retries;
  if (given("--retry-after")) plan.retry.after = nanos(options.retry_after);
  plan.choice.senders = plan.pace.rate > 0 ? 100 : plan.pace.clients;
}

RunPlan make_plan(const RunOptions& options, const CLI::App& command) {
  RunPlan plan;
  if (options.workload.empty()) {
    plan.blocks.push_back(make_block(options));
  } else {
    const std::vector<std::string> problems = read_workload_file(options.workload, plan);
    std::string all;
    for (const std::string& problem : problems) all += "\n" + problem;
    if (!all.empty()) refuse("--workload", all);
  }
  if (!options.targets.empty()) plan.targets.clear();
  for (const std::string& text : options.targets) {
    if (const Result<void> added = add_target(text, plan.targets); !added)
      refuse("--target", added.error().text());
  }
  if (!options.sources.empty()) plan.sources.clear();
  for (const std::string& text : options.sources) {
    if (const Result<void> added = add_sources(text, plan.sources); !added)
      refuse("--source", added.error().text());
  }
  if (!options.run_id.empty() && !is_word(options.run_id)) refuse("--run-id", "must be one word");
  plan.run_id = options.run_id.empty() ? random_run_id() : options.run_id;
  add_pace(options, command, plan.pace);
  add_choice(options, command, plan);
  settle_targets(plan);
  if (const Result<void> checked = check_plan(plan); !checked)
    throw CLI::ValidationError(checked.error().text());
  return plan;
}

std::vector<Threshold> make_thresholds(const RunOptions& options, const RunPlan& plan) {
  std::vector<std::string> names;
  for (const Block& block : plan.blocks) names.push_back(block.script.name);
  std::vector<Threshold> thresholds;
  for (const std::string& text : options.fail_if) {
    const Result<Threshold> threshold = parse_threshold(text, names);
    if (!threshold) refuse("--fail-if", threshold.error().text());
    thresholds.push_back(*threshold);
  }
  return thresholds;
}

Nanos cpu_used() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto span = [](const timeval& time) {
    return time.tv_sec * kSecond + time.tv_usec * kMicrosecond;
  };
  return span(usage.ru_utime) + span(usage.ru_stime);
}

/// Writes what was asked for; false when that fails.
bool write_reports(const RunOptions& options, const RunResult& result, const nlohmann::json& json) {
  bool well = true;
  if (!options.json.empty()) well = write_result(options.json, json.dump(2));
  if (!options.csv.empty()) well = write_result(options.csv, report_csv(result)) && well;
  if (!options.html.empty()) well = write_result(options.html, report_html(result)) && well;
  return well;
}

int run(const RunOptions& options, RunPlan plan, const std::vector<Threshold>& thresholds) {
  LedgerFile ledger;
  if (!options.ledger.empty()) {
    Result<LedgerFile> opened = LedgerFile::open(options.ledger);
    if (!opened) {
      fmt::print(stderr, "poise-load: {}\n", opened.error().text());
      return kExitUsage;
    }
    ledger = std::move(*opened);
  }
  const auto uses_tls = [](const Block& block) { return block.script.tls != Tls::none; };
  if (std::any_of(plan.blocks.begin(), plan.blocks.end(), uses_tls)) {
    auto context = tls::Context::client(options.ca_file);
    if (!context) {
      fmt::print(stderr, "poise-load: {}\n", context.error().text());
      return kExitUsage;
    }
    plan.tls = *context;
  }
  RunLoop loop(std::move(plan), std::move(ledger));

  const bool progress = options.progress || isatty(STDERR_FILENO);
  std::uint64_t second = 0;
  std::uint64_t peak = 0;
  const Nanos cpu_before = cpu_used();
  loop.run([&](const RunLoop& now) {
    if (!progress || now.tally().intervals.empty()) return;
    const Interval& last = now.tally().intervals.back();
    peak = std::max(peak, last.ok + last.failed);
    fmt::print(
        stderr, "{}\n",
        progress_line(++second, last, now.tally().ok + now.tally().failed, now.active(), peak));
  });

  const Pace& pace = loop.plan().pace;
  RunResult result{
      .tally = loop.tally(),
      .title = options.workload.empty() ? options.protocol : options.workload,
      .run_id = loop.plan().run_id,
      .choice = std::string(kChoiceNames[static_cast<std::size_t>(loop.plan().choice.choice)]),
      .targets = {},
      .clients = pace.clients,
      .rate = pace.rate,
      .elapsed = loop.elapsed(),
      .cpu = cpu_used() - cpu_before,
      .peak = loop.peak(),
      .unfinished = loop.active(),
      .queued = loop.queued(),
      .interrupted = loop.interrupted()};
  for (const Target& target : loop.targets()) result.targets.push_back(target.address.text());
  if (options.json != "-" && options.csv != "-") fmt::print("{}", report_text(result));
  const nlohmann::json json = report_json(result);
  bool well = write_reports(options, result, json);
  if (thresholds.empty()) well = well && loop.tally().failed == 0 && loop.tally().ok > 0;
  for (const Threshold& threshold : thresholds) {
    if (!is_crossed(threshold, json)) continue;
    fmt::print(stderr, "poise-load: {}: it is {:g}\n", threshold.text,
               figure_in(json, threshold.figure));
    well = false;
  }
  if (loop.ledger_failed()) {
    fmt::print(stderr, "poise-load: the ledger {} could not be written: it lacks messages\n",
               options.ledger);
    well = false;
  }
  return well ? 0 : 1;
}

void add_options(CLI::App& command, RunOptions& options) {
  command
      .add_option("--protocol", options.protocol,
                  "smtp, submission, smtps, lmtp, imap, imaps, pop3, pop3s or managesieve")
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option("--script", options.script,
                  "session: a whole one; connect: greeting and goodbye only")
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option("--workload", options.workload,
                  "A mix of blocks from a file (loadgen/workloads); then the options for one "
                  "block's dialogue do not count")
      ->type_name("FILE");
  command
      .add_option("--target", options.targets,
                  "Whom; repeated for several. @ and a number: its preference for mx")
      ->type_name("ADDRESS:PORT[@N]");
  command
      .add_option("--choose", options.choice,
                  "turns: each session the next target; single; dns-rr: a rotating list; mx: by "
                  "preference; balancer: one address for all. The last three try the next target "
                  "after a connection error, a 4yz, or a refusing greeting")
      ->type_name("WAY")
      ->capture_default_str();
  command
      .add_option("--first-only", options.first_only,
                  "dns-rr: so many percent of the senders never try a second address")
      ->check(CLI::Range(0.0, 100.0))
      ->type_name("PERCENT");
  command.add_option("--dns-ttl", options.dns_ttl, "dns-rr: a sender keeps its list that long")
      ->transform(duration_in_seconds())
      ->type_name("TIME");
  command
      .add_option("--retries", options.retries,
                  "When no target took it: come back later, so often (deferred, not lost)")
      ->type_name("N")
      ->capture_default_str();
  command.add_option("--retry-after", options.retry_after, "When to come back")
      ->transform(duration_in_seconds())
      ->check(CLI::PositiveNumber)
      ->type_name("TIME")
      ->capture_default_str();
  command
      .add_option("--source", options.sources,
                  "Connect from these addresses in turn: each brings its own ports; repeatable")
      ->type_name("ADDRESS[-LAST]");
  command.add_option("--sessions", options.sessions, "How many in all")->type_name("N");
  command.add_option("--duration", options.duration, "Begin sessions for that long")
      ->transform(duration_in_seconds())
      ->type_name("TIME");
  command
      .add_option("--clients", options.clients,
                  "Closed loop: that many at a time, the next when one ends")
      ->check(CLI::Range(1u, 1'000'000u))
      ->type_name("N")
      ->capture_default_str();
  command
      .add_option("--rate", options.rate,
                  "Open loop: that many sessions begin a second, whatever becomes of the others")
      ->transform(rate_per_second())
      ->check(CLI::PositiveNumber)
      ->type_name("R");
  command
      .add_option("--max-concurrent", options.max_concurrent,
                  "Open loop: at most that many at a time; others wait, and their clocks run")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  command
      .add_option("--size", options.size,
                  "Of a message: 4KiB; 1KiB-64KiB evenly; 2KiB*70,1MiB*5 so many of each; "
                  "lognormal:8KiB:1.2, median and sigma")
      ->type_name("SIZE")
      ->capture_default_str();
  command
      .add_option("--do", options.commands,
                  "What a session does between login and goodbye: SMTP message, rset, noop; IMAP "
                  "select, status, search, fetch, append, idle=TIME, noop; POP3 stat, list, uidl, "
                  "retr, dele, noop; all wait=TIME, poll=TIME. NAME*N: so often")
      ->delimiter(',')
      ->type_name("COMMAND,...");
  command.add_option("--think", options.think, "Closed loop: a client's pause between sessions")
      ->transform(duration_in_seconds())
      ->type_name("TIME");
  command.add_option("--tls", options.tls, "none, starttls or implicit")
      ->type_name("HOW")
      ->capture_default_str();
  command.add_option("--tls-name", options.tls_name, "SNI, and what the certificate must be for")
      ->type_name("NAME");
  command.add_flag("--tls-verify", options.tls_verify,
                   "A certificate that does not verify ends the session");
  command.add_option("--ca-file", options.ca_file, "PEM; the CAs to trust (default: the system's)")
      ->type_name("FILE");
  command.add_flag("--auth", options.auth,
                   "SMTP, ManageSieve: AUTH PLAIN (submission and smtps always do)");
  command
      .add_option("--messages-per-session", options.messages_per_session,
                  "SMTP: messages a session")
      ->check(CLI::Range(1u, 1'000'000u))
      ->type_name("N")
      ->capture_default_str();
  command.add_option("--recipients", options.recipients, "SMTP: recipients a message")
      ->check(CLI::Range(1u, 10'000u))
      ->type_name("N")
      ->capture_default_str();
  command.add_flag("--pipelining", options.pipelining, "SMTP: MAIL, RCPT and DATA in one go");
  command.add_option("--helo", options.helo, "SMTP: our name")
      ->type_name("NAME")
      ->capture_default_str();
  command.add_option("--from", options.from, "SMTP: the sender")
      ->type_name("ADDRESS")
      ->capture_default_str();
  command
      .add_option("--to", options.to,
                  "SMTP: the recipient; further ones are numbered: 2ADDRESS, ...")
      ->type_name("ADDRESS")
      ->capture_default_str();
  command.add_option("--user", options.user, "Login")->type_name("NAME")->capture_default_str();
  command
      .add_option("--users", options.users,
                  "Above 1: the login has a number from 1 to this behind it, in turn")
      ->check(CLI::Range(1u, 1'000'000u))
      ->type_name("N");
  command.add_option("--password", options.password, "Password")
      ->type_name("TEXT")
      ->capture_default_str();
  command.add_option("--connect-timeout", options.timeout_connect, "Patience for the connection")
      ->transform(duration_in_seconds())
      ->check(CLI::PositiveNumber)
      ->type_name("TIME")
      ->capture_default_str();
  command
      .add_option("--greeting-timeout", options.timeout_greeting,
                  "Patience for the greeting (default: 5m for SMTP like an MTA, else 30s)")
      ->transform(duration_in_seconds())
      ->check(CLI::PositiveNumber)
      ->type_name("TIME");
  command
      .add_option("--timeout", options.timeout_session,
                  "Patience for a session, from its greeting on, waits not counted")
      ->transform(duration_in_seconds())
      ->check(CLI::PositiveNumber)
      ->type_name("TIME")
      ->capture_default_str();
  command.add_option("--run-id", options.run_id, "What message ids begin with (default: random)")
      ->type_name("WORD");
  command.add_option("--ledger", options.ledger, "Append the id of each message that got its 250")
      ->type_name("FILE");
  command
      .add_option("--json", options.json,
                  "Write the report as JSON too (- is the standard output, without the text)")
      ->type_name("FILE");
  command.add_option("--csv", options.csv, "Write one row a command as CSV")->type_name("FILE");
  command.add_option("--html", options.html, "Write the report as one HTML page with plots")
      ->type_name("FILE");
  command
      .add_option("--fail-if", options.fail_if,
                  "Exit 1 when this holds: errors>0, submits<40, p99>200ms, smtp.rcpt.p99>1s; "
                  "repeatable. Without it, exit 1 when a session failed")
      ->type_name("FIGURE>NUMBER");
  command.add_flag("--progress", options.progress,
                   "One line a second to stderr, also when that is no terminal");
}

}  // namespace

void add_run_command(CLI::App& program, CommandAction& action) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command =
      program.add_subcommand("run", "Be many mail clients, and report rates, errors and latencies");
  add_options(*command, *options);
  command->callback([options, command, &action] {
    const RunPlan plan = make_plan(*options, *command);
    const std::vector<Threshold> thresholds = make_thresholds(*options, plan);
    action = [=] { return run(*options, plan, thresholds); };
  });
}

}  // namespace poise::loadgen
