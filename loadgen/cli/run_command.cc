#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "loadgen/cli/command.h"
#include "loadgen/client/run_loop.h"
#include "loadgen/loop/socket.h"
#include "loadgen/report/report.h"

namespace poise::loadgen {
namespace {

struct RunOptions {
  std::string protocol = "smtp";
  std::string script = "session";
  std::vector<std::string> targets;
  std::vector<std::string> sources;
  std::uint64_t sessions = 0;
  unsigned clients = 16;
  double rate = 0;
  double duration = 0;
  unsigned max_concurrent = 0;
  std::uint64_t size = 4096;
  std::string helo = "poise-load.test";
  std::string from = "sender@poise-load.test";
  std::string to = "user@poise-load.test";
  unsigned recipients = 1;
  unsigned messages_per_session = 1;
  bool pipelining = false;
  std::string user = "user";
  std::string password = "secret";
  double timeout_connect = 30;
  double timeout_greeting = 0;
  double timeout_session = 30;
  std::string run_id;
  std::string ledger;
  std::string json;
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

Script make_script(const RunOptions& options) {
  Script script;
  script.protocol = parse_protocol(options.protocol);
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
  script.helo = options.helo;
  script.sender = options.from;
  script.recipient = options.to;
  script.recipients = options.recipients;
  script.messages = options.messages_per_session;
  script.pipelining = options.pipelining;
  script.user = options.user;
  script.password = options.password;
  return script;
}

Pace make_pace(const RunOptions& options) {
  Pace pace;
  pace.clients = options.clients;
  pace.rate = options.rate;
  pace.sessions = options.sessions;
  pace.duration = nanos(options.duration);
  if (options.sessions == 0 && options.duration <= 0)
    refuse("--sessions", "say when to end: --sessions N or --duration TIME");
  const std::uint64_t fds = raise_fd_limit();
  const std::uint64_t room = fds > kOtherFds ? fds - kOtherFds : 1;
  if (options.rate <= 0 && options.clients > room) {
    refuse("--clients",
           fmt::format("{} clients need as many file descriptors; the limit is {} (ulimit -n)",
                       options.clients, fds));
  }
  pace.max_concurrent = static_cast<unsigned>(std::min<std::uint64_t>(
      options.max_concurrent > 0 ? options.max_concurrent : UINT32_MAX, room));
  return pace;
}

Patience make_patience(const RunOptions& options, Protocol protocol) {
  const bool smtp =
      protocol == Protocol::smtp || protocol == Protocol::submission || protocol == Protocol::lmtp;
  Patience patience;
  patience.connect = nanos(options.timeout_connect);
  patience.session = nanos(options.timeout_session);
  // RFC 5321 4.5.3.2.1: five minutes for the greeting. Nobody in front of a mail program waits that
  // long.
  patience.greeting = options.timeout_greeting > 0 ? nanos(options.timeout_greeting)
                      : smtp                       ? 300 * kSecond
                                                   : 30 * kSecond;
  return patience;
}

Nanos cpu_used() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto span = [](const timeval& time) {
    return time.tv_sec * kSecond + time.tv_usec * kMicrosecond;
  };
  return span(usage.ru_utime) + span(usage.ru_stime);
}

int run(const RunOptions& options, const Script& script, const std::vector<Address>& targets,
        const std::vector<Address>& sources, const Pace& pace) {
  LedgerFile ledger;
  if (!options.ledger.empty()) {
    Result<LedgerFile> opened = LedgerFile::open(options.ledger);
    if (!opened) {
      fmt::print(stderr, "poise-load: {}\n", opened.error().text());
      return kExitUsage;
    }
    ledger = std::move(*opened);
  }
  const std::string run_id = options.run_id.empty() ? random_run_id() : options.run_id;
  MessageMaker messages(run_id, options.size, script.sender, script.recipient);
  RunLoop loop(script, messages, targets, sources, pace, make_patience(options, script.protocol),
               std::move(ledger));

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

  RunResult result{.tally = loop.tally(),
                   .protocol = options.protocol,
                   .script = options.script,
                   .run_id = run_id,
                   .targets = {},
                   .clients = pace.clients,
                   .rate = pace.rate,
                   .elapsed = loop.elapsed(),
                   .cpu = cpu_used() - cpu_before,
                   .unfinished = loop.active(),
                   .interrupted = loop.interrupted()};
  for (const Address& target : targets) result.targets.push_back(target.text());
  if (options.json != "-") fmt::print("{}", report_text(result));
  bool well = loop.tally().failed == 0 && loop.tally().ok > 0;
  if (!options.json.empty() && !write_result(options.json, report_json(result).dump(2)))
    well = false;
  if (loop.ledger_failed()) {
    fmt::print(stderr, "poise-load: the ledger {} could not be written: it lacks messages\n",
               options.ledger);
    well = false;
  }
  return well ? 0 : 1;
}

void add_options(CLI::App& command, RunOptions& options) {
  command.add_option("--protocol", options.protocol, "smtp, submission, lmtp, imap or pop3")
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option("--script", options.script,
                  "session: a whole one; connect: greeting and goodbye only")
      ->type_name("NAME")
      ->capture_default_str();
  command.add_option("--target", options.targets, "Whom; repeated: in turn")
      ->required()
      ->type_name("ADDRESS:PORT");
  command
      .add_option("--source", options.sources,
                  "Connect from this address; repeated: in turn (each brings its own ports)")
      ->type_name("ADDRESS");
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
  command.add_option("--size", options.size, "Bytes of a message (4KiB, 20MiB)")
      ->transform(size_in_bytes())
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 30))
      ->type_name("BYTES")
      ->capture_default_str();
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
  command.add_option("--user", options.user, "IMAP, POP3, submission: login")
      ->type_name("NAME")
      ->capture_default_str();
  command.add_option("--password", options.password, "IMAP, POP3, submission: password")
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
                  "Patience for a session, from its greeting on")
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
  command.add_flag("--progress", options.progress,
                   "One line a second to stderr, also when that is no terminal");
}

}  // namespace

void add_run_command(CLI::App& program, Action& action) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command =
      program.add_subcommand("run", "Be many mail clients, and report rates, errors and latencies");
  add_options(*command, *options);
  command->callback([options, &action] {
    const Script script = make_script(*options);
    const Pace pace = make_pace(*options);
    if (!options->run_id.empty() && !is_word(options->run_id))
      refuse("--run-id", "must be one word");
    std::vector<Address> targets;
    for (const std::string& text : options->targets) {
      const Result<Address> address = parse_address(text);
      if (!address) refuse("--target", address.error().text());
      if (address->port == 0) refuse("--target", text + ": nobody listens on port 0");
      targets.push_back(*address);
    }
    std::vector<Address> sources;
    for (const std::string& text : options->sources) {
      const auto address = Address::from_ip(text);
      if (!address) refuse("--source", text + " is no IP address");
      for (const Address& target : targets) {
        if (target.family != address->family)
          refuse("--source", fmt::format("{} cannot reach {}: IPv4 and IPv6", text, target.text()));
      }
      sources.push_back(*address);
    }
    action = [=] { return run(*options, script, targets, sources, pace); };
  });
}

}  // namespace poise::loadgen
