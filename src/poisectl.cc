/// poisectl: asks poised through its control socket, and tells a person or a program.

#include <CLI/CLI.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "config/keepalived.h"
#include "config/load.h"
#include "config/nearest.h"
#include "ctl/client.h"
#include "ctl/show.h"
#include "ctl/table.h"
#include "ctl/top.h"
#include "poise/number.h"

namespace {

using namespace poise::ctl;
using Clock = std::chrono::steady_clock;

constexpr int kDone = 0, kRefused = 1, kUsage = 2, kNoDaemon = 3;

/// What the options say, and the way to the daemon.
struct Session {
  std::string socket = "/run/poise/poised.sock";
  bool json = false;
  Screen screen;

  Client client() const { return Client(socket); }
};

int no_daemon(const poise::Error& error) {
  fmt::print(stderr, "poisectl: {}\n", error.text());
  return kNoDaemon;
}

struct Answer {
  int code = kDone;  ///< not kDone: it has been said why
  Json result;
};

Answer get(Client& client, const Json& request) {
  const auto answer = client.ask(request);
  if (!answer) return {no_daemon(answer.error()), {}};
  if (answer->value("ok", false)) return {kDone, (*answer)["result"]};
  fmt::print(stderr, "poisectl: {}\n", answer->value("error", "refused"));
  return {answer->value("code", kRefused) == kUsage ? kUsage : kRefused, {}};
}

Answer get(const Session& session, const Json& request) {
  Client client = session.client();
  return get(client, request);
}

/// Asks; prints the answer by `show`, or as JSON, or why there is none.
int ask(const Session& session, const Json& request,
        const std::function<std::string(const Json&)>& show) {
  const Answer answer = get(session, request);
  if (answer.code == kDone)
    fmt::print("{}", session.json ? answer.result.dump(2) + "\n" : show(answer.result));
  return answer.code;
}

int status(const Session& session, bool check) {
  const Answer answer = get(session, {{"command", "status"}});
  if (answer.code != kDone) return answer.code;
  if (session.json)
    fmt::print("{}\n", answer.result.dump(2));
  else if (check)
    fmt::print("{}\n", answer.result.value("sentence", ""));
  else
    fmt::print("{}", show_status(answer.result, session.screen));
  if (!check) return kDone;
  const std::string verdict = answer.result.value("verdict", "");
  return verdict == "ok" ? 0 : verdict == "warning" ? 1 : 2;
}

int reload(const Session& session, bool dry_run, const std::string& reason) {
  const Answer answer =
      get(session, {{"command", "reload"}, {"dry_run", dry_run}, {"reason", reason}});
  if (answer.code != kDone) return answer.code;
  const bool done = answer.result.value("done", false);
  if (session.json)
    fmt::print("{}\n", answer.result.dump(2));
  else
    fmt::print(done ? stdout : stderr, "{}", show_reload(answer.result, dry_run, session.screen));
  return done ? kDone : kRefused;
}

/// Exits 1 when what was seen is not good, as poised --probe does.
int probe_now(const Session& session, const std::string& backend, bool deep) {
  const Answer answer = get(session, {{"command", "probe"}, {"backend", backend}, {"deep", deep}});
  if (answer.code != kDone) return answer.code;
  fmt::print("{}", session.json ? answer.result.dump(2) + "\n"
                                : show_probe(answer.result, session.screen));
  return answer.result.value("good", false) ? kDone : kRefused;
}

// ---- wait ----

/// The backends that `target` means: pool/name or host/NAME.
Json matching(const Json& backends, const std::string& target) {
  Json found = Json::array();
  for (const Json& each : backends)
    if (each.value("pool", "") + "/" + each.value("name", "") == target ||
        "host/" + each.value("host", "") == target)
      found.push_back(each);
  return found;
}

bool reached(const Json& backends, bool drained) {
  for (const Json& each : backends) {
    const std::string state = each.value("state", "");
    const bool is =
        drained ? (state == "draining" || state == "disabled") && each.value("sessions", 0) == 0
                : state == "up" || state == "recovering";
    if (!is) return false;
  }
  return true;
}

int wait_for(const Session& session, const std::string& target, const std::string& what,
             double timeout) {
  Client client = session.client();
  const auto end = Clock::now() + std::chrono::duration<double>(timeout);
  for (;;) {
    const Answer answer = get(client, {{"command", "show backends"}});
    if (answer.code != kDone) return answer.code;
    const Json backends = matching(answer.result, target);
    if (backends.empty()) {
      // The daemon knows what is near.
      const auto refusal = client.ask({{"command", "show sessions"}, {"backend", target}});
      fmt::print(stderr, "poisectl: {}\n",
                 refusal ? refusal->value("error", "no backend " + target) : "no such backend");
      return kRefused;
    }
    if (reached(backends, what == "drained")) {
      if (session.json)
        fmt::print("{}\n", backends.dump(2));
      else
        fmt::print("{} is {}\n", target, what);
      return kDone;
    }
    if (timeout > 0 && Clock::now() >= end) {
      fmt::print(stderr, "poisectl: {} is not {} after {} s:\n{}", target, what, timeout,
                 show_backends(backends, session.screen));
      return kRefused;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

// ---- top ----

int top(const Session& session, double interval, unsigned count, bool plain) {
  Client client = session.client();
  Top view;
  auto last = Clock::now();
  const bool lines = plain || session.screen.columns == 0;
  for (unsigned turn = 0; count == 0 || turn <= count; ++turn) {
    Json answers[3];
    const char* const commands[] = {"status", "show services", "show backends"};
    for (std::size_t i = 0; i < 3; ++i) {
      Answer answer = get(client, {{"command", commands[i]}});
      if (answer.code != kDone) return answer.code;
      answers[i] = std::move(answer.result);
    }
    const auto now = Clock::now();
    const double seconds = turn == 0 ? 0 : std::chrono::duration<double>(now - last).count();
    last = now;
    if (lines) {
      const std::string time = fmt::format("{:%H:%M:%S}", fmt::localtime(std::time(nullptr)));
      fmt::print("{}", view.line(time, answers[1], answers[2], seconds));
    } else {
      fmt::print("\x1b[H\x1b[J{}",
                 view.screen(answers[0], answers[1], answers[2], seconds, session.screen));
    }
    std::fflush(stdout);
    if (count == 0 || turn < count)
      std::this_thread::sleep_for(std::chrono::duration<double>(interval));
  }
  return kDone;
}

// ---- support-bundle ----

int support_bundle(const Session& session, std::string path) {
  Client client = session.client();
  if (path.empty())
    path = fmt::format("poise-support-{:%Y%m%d-%H%M%S}.txt", fmt::gmtime(std::time(nullptr)));
  std::string text;
  const auto section = [&text](const std::string& title, const std::string& body) {
    text += fmt::format("==== {} ====\n{}\n\n", title, body);
  };
  for (const char* command :
       {"status", "doctor", "show services", "show backends", "events", "show config", "metrics"}) {
    const auto answer = client.ask({{"command", command}});
    if (!answer) return no_daemon(answer.error());
    const bool ok = answer->value("ok", false);
    const Json& body = ok ? (*answer)["result"] : (*answer)["error"];
    section(command, body.is_string() ? body.get<std::string>() : body.dump(2));
  }
  utsname machine{};
  if (::uname(&machine) == 0)
    section("machine", fmt::format("{} {} {}", machine.sysname, machine.release, machine.machine));
  for (const char* file :
       {"/proc/sys/net/core/somaxconn", "/proc/sys/net/ipv4/ip_local_port_range",
        "/proc/sys/net/ipv4/tcp_migrate_req", "/proc/sys/kernel/io_uring_disabled", "/proc/loadavg",
        "/proc/net/sockstat", "/etc/debian_version"}) {
    std::ifstream in(file);
    std::string body((std::istreambuf_iterator<char>(in)), {});
    section(file, in.is_open() ? body : "(not there)");
  }
  std::ofstream out(path);
  out << text;
  out.close();
  if (!out) {
    fmt::print(stderr, "poisectl: {} could not be written\n", path);
    return kRefused;
  }
  fmt::print(
      "{} written. Read it before you send it: it names your servers, and no client or "
      "password.\n",
      path);
  return kDone;
}

/// Who poised runs as: what the file says, else whose the folder of its socket is.
std::string daemon_user(const poise::config::Config& config) {
  if (!config.user.empty()) return config.user;
  struct stat folder {};
  const std::string path = poise::config::VrrpFiles::of(config).folder;
  const passwd* const owner =
      ::stat(path.c_str(), &folder) == 0 ? ::getpwuid(folder.st_uid) : ::getpwnam("poise");
  return owner != nullptr ? owner->pw_name : "root";
}

int vrrp_config(const std::string& path, bool json) {
  const poise::config::LoadResult loaded = poise::config::load_file(path);
  for (const poise::config::Problem& each : loaded.errors)
    fmt::print(stderr, "error: {}\n", each.text());
  if (!loaded.config) return kRefused;
  if (!loaded.config->pair) {
    fmt::print(stderr, "poisectl: there is no \"pair\" in {}\n", path);
    return kRefused;
  }
  std::error_code unknown;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe", unknown).string();
  const std::string text = poise::config::keepalived_config(
      *loaded.config, daemon_user(*loaded.config), unknown ? "/usr/bin/poisectl" : self);
  fmt::print("{}", json ? Json(text).dump() + "\n" : text);
  return kDone;
}

/// For the shell's completion: what drain and its like take.
int targets(const Session& session) {
  Client client = session.client();
  for (const char* command : {"show backends", "show services"}) {
    const auto answer = client.ask({{"command", command}});
    if (!answer) return kNoDaemon;
    for (const Json& each : (*answer)["result"]) {
      const bool backend = each.contains("address");
      fmt::print("{}{}\n", backend ? each.value("pool", "") + "/" : "", each.value("name", ""));
      if (const std::string host = each.value("host", ""); !host.empty())
        fmt::print("host/{}\n", host);
    }
  }
  return kDone;
}

/// "no command "statsu"; did you mean "status"?", or nothing when the words are known as far as
/// they go.
std::string misspelt(const CLI::App& app, int argc, char** argv) {
  const CLI::App* at = &app;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "-s" || word == "--socket") ++i;
    if (word.rfind('-', 0) == 0) continue;
    std::vector<std::string> known;
    const CLI::App* next = nullptr;
    for (const CLI::App* each : at->get_subcommands(nullptr)) {
      if (each->get_name() == word) next = each;
      if (!each->get_group().empty()) known.push_back(each->get_name());
    }
    if (known.empty()) return "";
    if (next == nullptr)
      return fmt::format("no command \"{}\"{} (there are: {})", word,
                         poise::config::did_you_mean(word, known), fmt::join(known, ", "));
    at = next;
  }
  return "";
}

}  // namespace

int main(int argc, char** argv) {
  Session session;
  session.screen = Screen::of_stdout();
  int code = kDone;
  CLI::App app{"poisectl - asks and commands poised", "poisectl"};
  app.set_version_flag("--version", "poisectl " POISE_VERSION);
  app.add_option("-s,--socket", session.socket, "The control socket of poised")
      ->envname("POISE_SOCKET")
      ->capture_default_str();
  app.add_flag("--json", session.json, "Answers as JSON, for programs");
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(
      "BACKEND is pool/name; TARGET is a BACKEND, host/NAME (all backends on that machine) or a "
      "service.\n"
      "Exit: 0 done, 1 refused (with the reason), 2 usage, 3 no daemon.");

  std::string reason, target, pool, over, source, service, backend, address, since, what, path;
  std::uint64_t id = 0, limit = 1000;
  double timeout = 0, interval = 2;
  unsigned count = 0;
  bool check = false, dry_run = false, plain = false, deep = false, and_kick = false;
  const Screen& screen = session.screen;
  const auto with_reason = [&reason](CLI::App* command) {
    command->add_option("--reason", reason, "Why; remembered and shown");
    return command;
  };
  const auto filter = [&] {
    Json request;
    if (id != 0) request["id"] = id;
    if (!service.empty()) request["service"] = service;
    if (!backend.empty()) request["backend"] = backend;
    if (!source.empty()) request["source"] = source;
    return request;
  };

  auto* const status_command = app.add_subcommand("status", "Does mail flow, and what is wrong");
  status_command->add_flag("--check", check,
                           "One line; exit 0 ok, 1 warning, 2 critical, 3 unknown, as monitoring "
                           "plugins do");
  status_command->callback([&] { code = status(session, check); });

  auto* const show = app.add_subcommand("show", "What there is, as a table");
  show->require_subcommand(1);
  const auto view = [&](const char* name, const char* help,
                        std::string (*text)(const Json&, const Screen&)) {
    auto* const command = show->add_subcommand(name, help);
    command->callback([&session, &code, name, text, &screen] {
      code = ask(session, {{"command", fmt::format("show {}", name)}},
                 [text, &screen](const Json& result) { return text(result, screen); });
    });
  };
  const auto as_json = [](const Json& result, const Screen&) { return show_said(result); };
  view("services", "What clients connect to", show_services);
  view("backends", "The servers: state, weight, sessions, reason", show_backends);
  view("config", "The configuration that runs, with every default", as_json);
  view("refusals", "The last clients that were refused, and the servers' words", show_troubled);
  view("retries", "The last clients that a second server was tried for", show_troubled);
  view("bans", "Whom we don't serve", show_bans);
  auto* const sticky = show->add_subcommand("sticky", "Which source stays on which server");
  sticky->add_option("--backend", backend, "On this backend");
  sticky->add_option("--source", source, "Of this address or network");
  sticky->add_option("--limit", limit, "So many at most")->capture_default_str();
  sticky->callback([&] {
    Json request = filter();
    request["command"] = "show sticky";
    request["limit"] = limit;
    code = ask(session, request,
               [&screen](const Json& result) { return show_sticky(result, screen); });
  });
  auto* const sessions = show->add_subcommand("sessions", "The open sessions");
  sessions->add_option("--service", service, "Of this service");
  sessions->add_option("--backend", backend, "On this backend");
  sessions->add_option("--source", source, "From this address or network");
  sessions->add_option("--limit", limit, "So many at most")->capture_default_str();
  sessions->callback([&] {
    Json request = filter();
    request["command"] = "show sessions";
    request["limit"] = limit;
    code = ask(session, request,
               [&screen](const Json& result) { return show_sessions(result, screen); });
  });

  auto* const events = app.add_subcommand("events", "What changed, when, why and by whom");
  events->add_option("--since", since, "Of the last 1h, 2d, ...; all that are kept if not given");
  events->callback([&] {
    code = ask(session, {{"command", "events"}, {"since", since}},
               [&screen](const Json& result) { return show_events(result, screen); });
  });

  auto* const why = app.add_subcommand("why", "Which backend a new session would get, and why");
  why->add_option("SERVICE", service)->required();
  why->add_option("ADDRESS", address, "The client's")->required();
  why->callback([&] {
    code = ask(session, {{"command", "why"}, {"service", service}, {"address", address}},
               [&screen](const Json& result) { return show_why(result, screen); });
  });

  auto* const probe = app.add_subcommand("probe", "Probes a backend now and says what it saw");
  probe->add_option("BACKEND", backend)->required();
  probe->add_flag("--deep", deep, "The pool's deep probe");
  probe->callback([&] { code = probe_now(session, backend, deep); });

  auto* const doctor = app.add_subcommand("doctor", "What about this machine will hurt");
  doctor->callback([&] {
    if (!pool.empty()) {
      code = ask(session, {{"command", "doctor proxy"}, {"pool", pool}},
                 [&screen](const Json& result) { return show_headers(result, screen); });
      return;
    }
    code = ask(session, {{"command", "doctor"}},
               [&screen](const Json& result) { return show_doctor(result, screen); });
  });
  doctor->require_subcommand(0, 1);
  auto* const headers = doctor->add_subcommand(
      "proxy", "Which PROXY headers the servers of a pool take, and what to set on which side");
  headers->add_option("POOL", pool)->required();

  struct Verb {
    const char *name, *help;
    bool over;
  };
  for (const Verb& verb :
       {Verb{"drain", "No new sessions; those there finish; then it is disabled", true},
        Verb{"disable", "No new sessions, at once and until enabled", true},
        Verb{"enable", "Takes sessions again", false}}) {
    auto* const command = with_reason(app.add_subcommand(verb.name, verb.help));
    command->add_option("TARGET", target, "pool/name, host/NAME or a service")->required();
    if (verb.over)
      command->add_option("--over", over,
                          "Let its sessions go within 30m, evenly; never one whose server owes an "
                          "answer");
    command->callback([&, name = verb.name] {
      code =
          ask(session, {{"command", name}, {"target", target}, {"over", over}, {"reason", reason}},
              show_said);
    });
  }

  auto* const wait = app.add_subcommand("wait", "Returns when a backend is drained, or up");
  wait->add_option("BACKEND", target, "pool/name or host/NAME")->required();
  wait->add_option("STATE", what)->required()->check(CLI::IsMember({"drained", "up"}));
  wait->add_option("--timeout", timeout, "Seconds; 0: for ever")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  wait->callback([&] { code = wait_for(session, target, what, timeout); });

  std::string weight_text;
  auto* const weight = with_reason(app.add_subcommand("weight", "Sets a backend's share"));
  weight->add_option("BACKEND", backend)->required();
  weight->add_option("N", weight_text, "0..256, or \"configured\": as the file says")
      ->required()
      ->check([](const std::string& text) -> std::string {
        if (text == "configured" || poise::parse_number<unsigned>(text)) return "";
        return text + " is neither a number nor \"configured\"";
      });
  weight->callback([&] {
    Json request{{"command", "weight"}, {"backend", backend}, {"reason", reason}};
    if (const auto given = poise::parse_number<unsigned>(weight_text)) request["weight"] = *given;
    code = ask(session, request, show_said);
  });

  auto* const kick = with_reason(app.add_subcommand("kick", "Ends sessions at once"));
  kick->add_option("SESSION", id, "Its id, as show sessions has it");
  kick->add_option("--backend", backend, "All on this backend");
  kick->add_option("--source", source, "All from this address or network");
  kick->add_option("--service", service, "All of this service");
  kick->callback([&] {
    Json request = filter();
    if (request.empty()) {
      fmt::print(stderr, "poisectl: name a session, --backend, --source or --service\n");
      code = kUsage;
      return;
    }
    request["command"] = "kick";
    request["reason"] = reason;
    code = ask(session, request, [](const Json& result) {
      return fmt::format("{} sessions ended\n", result.value("ended", 0));
    });
  });

  std::string duration;
  auto* const ban = with_reason(app.add_subcommand("ban", "Whom we don't serve"));
  ban->add_option("VERB", what)->required()->check(CLI::IsMember({"add", "del", "list"}));
  ban->add_option("NET", source, "An address or a network");
  ban->add_option("--for", duration, "For 1h; for ever if not given");
  ban->add_flag("--kick", and_kick, "With add: ends the sessions from there at once");
  ban->callback([&] {
    if (what != "list" && source.empty()) {
      fmt::print(stderr, "poisectl: ban {} needs an address or a network\n", what);
      code = kUsage;
      return;
    }
    if (what == "list") {
      code = ask(session, {{"command", "show bans"}},
                 [&screen](const Json& result) { return show_bans(result, screen); });
      return;
    }
    code = ask(session,
               {{"command", "ban"},
                {"verb", what},
                {"kick", and_kick},
                {"source", source},
                {"for", duration},
                {"reason", reason}},
               show_said);
  });

  auto* const reload_command =
      with_reason(app.add_subcommand("reload", "Reads the configuration file again"));
  reload_command->add_flag("--dry-run", dry_run, "Only says what would change");
  reload_command->callback([&] { code = reload(session, dry_run, reason); });

  auto* const top_command = app.add_subcommand(
      "top", "A live view; one line an interval when not on a terminal, or with --plain");
  top_command->add_option("--interval", interval, "Seconds")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  top_command->add_option("--count", count, "So many intervals; 0: until Ctrl-C");
  top_command->add_flag("--plain", plain,
                        "A line an interval: time, rate, open, * and - for failures");
  top_command->callback([&] { code = top(session, interval, count, plain); });

  auto* const bundle = app.add_subcommand(
      "support-bundle", "Writes what a developer needs into a text file, without secrets");
  bundle->add_option("FILE", path, "poise-support-TIME.txt if not given");
  bundle->callback([&] { code = support_bundle(session, path); });

  auto* const pair = app.add_subcommand("pair", "The two boxes of an active/passive pair");
  pair->require_subcommand(1);
  pair->add_subcommand("status", "Who has the addresses, and what the boxes know of each other")
      ->callback([&] {
        code = ask(session, {{"command", "pair status"}},
                   [&screen](const Json& result) { return show_pair(result, screen); });
      });
  pair->add_subcommand("diff", "What differs between their files and operators' decisions")
      ->callback([&] {
        code = ask(session, {{"command", "pair diff"}}, show_pair_difference);
      });
  with_reason(pair->add_subcommand("push", "This box's file runs on both, or on neither"))
      ->callback([&] {
        code = ask(session, {{"command", "pair push"}, {"reason", reason}}, show_said);
      });
  auto* const pair_switch = with_reason(
      pair->add_subcommand("switch", "Gives the addresses to the other box; says what it costs"));
  pair_switch->add_flag("--dry-run", dry_run, "Only says what it would cost");
  pair_switch->callback([&] {
    code = ask(session, {{"command", "pair switch"}, {"dry_run", dry_run}, {"reason", reason}},
               show_said);
  });

  std::string config_path = "/etc/poise/poise.json";
  auto* const vrrp = app.add_subcommand(
      "vrrp-config", "Prints keepalived's configuration for this box; needs no running poised");
  vrrp->add_option("-c,--config", config_path, "The configuration file")->capture_default_str();
  vrrp->callback([&] { code = vrrp_config(config_path, session.json); });

  app.add_subcommand("alive", "Exits 0 when poised answers; keepalived asks this every second")
      ->callback([&] {
        code = ask(session, {{"command", "alive"}}, [](const Json&) { return std::string(); });
      });

  auto* const shutdown =
      with_reason(app.add_subcommand("shutdown", "Stops poised as SIGTERM does: after a drain"));
  shutdown->callback([&] {
    code = ask(session, {{"command", "shutdown"}, {"reason", reason}},
               [](const Json&) { return std::string("poised is stopping\n"); });
  });

  app.add_subcommand("targets")->group("")->callback([&] { code = targets(session); });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0)
      if (const std::string words = misspelt(app, argc, argv); !words.empty()) {
        fmt::print(stderr, "poisectl: {}\n", words);
        return kUsage;
      }
    const int exit = app.exit(error);
    return exit == 0 ? kDone : kUsage;
  }
  return code;
}
