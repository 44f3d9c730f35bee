/// poise-balance: the command line and the commands of Inlab balance 3.57 over poised's core.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "admin/control_socket.h"
#include "command/balance_line.h"
#include "command/balance_shell.h"
#include "config/load.h"
#include "control/control.h"
#include "ctl/client.h"
#include "log/log.h"
#include "net/fd.h"

namespace {

using namespace poise;

constexpr int kFailed = 1, kExitUsage = 2;
/// balance's EX_UNAVAILABLE: nobody serves there.
constexpr int kNobody = 69;

constexpr const char* kHelp =
    R"(usage: poise-balance [-adfHMp6] [-b ADDR] [-B ADDR] [-t SECONDS] [-T SECONDS]
                     PORT HOST[:PORT[:MAXC]] [!|%] [HOST[:PORT[:MAXC]] ...] ...
       poise-balance [-b ADDR] -i PORT
       poise-balance [-b ADDR] -c COMMAND PORT

  -b ADDR  listen there            -t SECONDS  patience for a connect (5)
  -B ADDR  connect from there      -T SECONDS  end sessions that are silent for so long
  -6       listen on IPv6 too      -d          log more
  -f       stay in the foreground  -a          who fails stays out until "enable"
  -i       commands from standard input to the one that serves; "help" lists them
  -c CMD   one command             -H -M -p    accepted: see poise-balance(8)
  !  ends a group: round robin     %  ends a group: by a hash of the client's address
  --print-config  prints the line as a poise.json and exits
)";

/// Where commands go to: of -i and -c, and of poisectl.
std::string socket_path(const BalanceLine& line) {
  return fmt::format("/run/poise/balance.{}.{}.sock", line.port, line.listen());
}

// ---- the one that serves

/// The parent's end of a start in the background: waits until the child serves, or has failed.
int await_child(pid_t child, const net::Fd& ready) {
  std::array<char, 1> byte{};
  ssize_t got = 0;
  while ((got = ::read(ready.get(), byte.data(), byte.size())) < 0 && errno == EINTR) {
  }
  if (got == 1) return 0;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : kFailed;
}

/// Lets the parent go, and its terminal.
void leave_terminal(net::Fd& ready) {
  const net::Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd = 0; fd < 3 && null; ++fd) ::dup2(null.get(), fd);
  const char byte = 1;
  static_cast<void>(!::write(ready.get(), &byte, 1));
  ready.reset();
}

int serve(config::Config config, const BalanceLine& line, net::Fd ready) {
  control::Control::block_signals();  // before any thread
  if (!line.foreground) {
    if (::access("/dev/log", F_OK) == 0)
      config.log.target = config::LogTarget::syslog;
    else
      fmt::print(stderr, "poise-balance: no syslog daemon runs: nothing will be logged\n");
  }
  log::Log log({.level = config.log.level,
                .session_start = false,
                .target = config.log.target,
                .format = config.log.format});
  const auto fail = [&](const Error& error) {
    log.message(config::LogLevel::error, "not started: {}", error.text());
    log.stop();
    if (config.log.target != config::LogTarget::stderr_)
      fmt::print(stderr, "poise-balance: not started: {}\n", error.text());
    return kFailed;
  };
  if (auto started = log.start(); !started) {
    fmt::print(stderr, "poise-balance: not started: {}\n", started.error().text());
    return kFailed;
  }
  for (const std::string& note : line.notes) log.message(config::LogLevel::warning, "{}", note);
  config.admin.socket = socket_path(line);
  const config::Admin admin_config = config.admin;
  admin::prepare_folder(admin_config.socket, "poise");

  BalanceShell shell(line);
  control::Control* serving = nullptr;
  control::Notify notify;
  notify.ready = [&] {
    if (ready) leave_terminal(ready);
  };
  if (line.autodisable)
    notify.down = [&](const std::string& backend) {
      serving->ask(
          [&shell, backend](control::Commands& commands) { shell.autodisable(commands, backend); });
    };
  control::Control control(std::move(config),
                           {.config_path = "the command line",
                            .load = [&shell] { return shell.load(); },
                            .state_directory = "",
                            .version = POISE_VERSION},
                           log, std::move(notify));
  serving = &control;
  if (auto started = control.start(); !started) return fail(started.error());
  {
    admin::Requests requests(control);
    requests.add("balance", [&shell](control::Commands& commands, const admin::Json& request,
                                     const admin::Caller& caller,
                                     const admin::Requests::Answer& answer) {
      shell.run(commands, request.value("line", ""),
                {.user = caller.user, .admin = caller.admin, .group = request.value("group", 0u)},
                [answer](const BalanceShell::Reply& reply) {
                  answer({{"ok", true},
                          {"result",
                           {{"text", reply.text},
                            {"group", reply.group},
                            {"quit", reply.then == BalanceShell::Reply::Then::quit},
                            {"ends", reply.then == BalanceShell::Reply::Then::await_end}}}});
                });
    });
    admin::ControlSocket socket(requests, log);
    if (auto started = socket.start(admin_config); started)
      log.message(config::LogLevel::info, "commands: poise-balance -i, poisectl -s {}",
                  admin_config.socket);
    else
      log.message(config::LogLevel::warning, "no commands: {}", started.error().text());
    control.run();
  }
  log.stop();
  return 0;
}

/// In the foreground, or in a child of ours that outlives us.
int start(config::Config config, const BalanceLine& line) {
  if (line.foreground) return serve(std::move(config), line, {});
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    fmt::print(stderr, "poise-balance: pipe: {}\n", std::strerror(errno));
    return kFailed;
  }
  net::Fd parent(ends[0]), child(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) {
    fmt::print(stderr, "poise-balance: fork: {}\n", std::strerror(errno));
    return kFailed;
  }
  if (pid > 0) {
    child.reset();
    return await_child(pid, parent);
  }
  parent.reset();
  ::setsid();
  if (::chdir("/") != 0) fmt::print(stderr, "poise-balance: chdir /: {}\n", std::strerror(errno));
  return serve(std::move(config), line, std::move(child));
}

// ---- -i and -c

/// Nobody answers any more. Sessions may finish first: shutdown.drain and some more.
bool gone(const std::string& socket) {
  constexpr std::chrono::milliseconds kLook{50};
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(45);
  while (ctl::Client(socket).ask({{"command", "status"}})) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::sleep_for(kLook);
  }
  return true;
}

int command_shell(const BalanceLine& line) {
  ctl::Client client(socket_path(line));
  const auto status = client.ask({{"command", "status"}});
  if (!status) {
    fmt::print("no master process, exiting.\n");
    fmt::print(stderr, "poise-balance: {}\n", status.error().text());
    return kNobody;
  }
  const auto master = (*status)["result"].value("pid", pid_t{0});
  const bool shell = line.task == BalanceLine::Task::shell;
  if (shell)
    fmt::print("\npoise-balance {} interactive command shell\nPID of master process is {}\n\n",
               POISE_VERSION, master);
  unsigned group = 0;
  for (;;) {
    std::string input = line.command;
    if (shell) {
      fmt::print("balance[{}] ", group);
      std::fflush(stdout);
      if (!std::getline(std::cin, input)) {
        fmt::print("\n");
        return 0;
      }
    }
    const auto answer = client.ask({{"command", "balance"}, {"line", input}, {"group", group}});
    if (!answer) {
      fmt::print(stderr, "poise-balance: {}\n", answer.error().text());
      return kNobody;
    }
    if (!answer->value("ok", false)) {
      fmt::print(stderr, "poise-balance: {}\n", answer->value("error", "refused"));
      return kFailed;
    }
    const ctl::Json& result = (*answer)["result"];
    group = result.value("group", group);
    fmt::print("{}", result.value("text", ""));
    std::fflush(stdout);
    if (result.value("ends", false)) {
      const bool ended = gone(client.path());
      fmt::print("{}", ended ? "shutdown complete, exiting.\n" : "shutdown failed.\n");
      return ended ? 0 : kNobody;
    }
    if (!shell || result.value("quit", false)) return 0;
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  if (!arguments.empty() && (arguments.front() == "--help" || arguments.front() == "-h")) {
    fmt::print("{}", kHelp);
    return 0;
  }
  if (!arguments.empty() && arguments.front() == "--version") {
    fmt::print("poise-balance {}\n", POISE_VERSION);
    return 0;
  }
  const bool print = !arguments.empty() && arguments.front() == "--print-config";
  if (print) arguments.erase(arguments.begin());
  const auto line = parse_balance_line(arguments);
  if (!line) {
    fmt::print(stderr, "poise-balance: {}\n{}", line.error().text(),
               arguments.empty() ? kHelp : "");
    return kExitUsage;
  }
  if (line->task != BalanceLine::Task::serve) return command_shell(*line);
  config::LoadResult loaded = BalanceShell(*line).load();
  if (!loaded.config) {
    for (const config::Problem& problem : loaded.errors)
      fmt::print(stderr, "poise-balance: {}\n", problem.text());
    return kExitUsage;
  }
  if (print) {
    for (const std::string& note : line->notes) fmt::print(stderr, "note: {}\n", note);
    fmt::print("{}", line->draft().text());
    return 0;
  }
  return start(std::move(*loaded.config), *line);
}
