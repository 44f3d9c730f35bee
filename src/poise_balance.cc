/// poise-balance: the command line of Inlab balance 3.57 over poised's core, in the foreground.

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "admin/control_socket.h"
#include "command/balance_line.h"
#include "config/load.h"
#include "control/control.h"
#include "log/log.h"

namespace {

using namespace poise;

constexpr int kExitUsage = 2;

constexpr const char* kHelp =
    R"(usage: poise-balance [-adfHM6] [-b ADDR] [-B ADDR] [-t SECONDS] [-T SECONDS]
                     PORT HOST[:PORT[:MAXC]] [!|%] [HOST[:PORT[:MAXC]] ...] ...

  -b ADDR  listen there            -t SECONDS  patience for a connect (5)
  -B ADDR  connect from there      -T SECONDS  end sessions that are silent for so long
  -6       listen on IPv6 too      -d          log more
  -a -f -H -M  accepted: see poise-balance(8)
  !  ends a group: round robin     %  ends a group: by a hash of the client's address
  --print-config  prints the line as a poise.json and exits
)";

/// Where poisectl finds it; empty: nowhere that we may write to.
std::string socket_path(const BalanceLine& line) {
  return fmt::format("/run/poise/balance.{}.{}.sock", line.port, line.listen);
}

int serve(config::Config config, const BalanceLine& line) {
  control::Control::block_signals();  // before any thread
  log::Log log({.level = config.log.level,
                .session_start = false,
                .target = config.log.target,
                .format = config.log.format});
  if (auto started = log.start(); !started) {
    fmt::print(stderr, "poise-balance: not started: {}\n", started.error().text());
    return 1;
  }
  for (const std::string& note : line.notes) log.message(config::LogLevel::warning, "{}", note);
  config.admin.socket = socket_path(line);
  const config::Admin admin_config = config.admin;
  admin::prepare_folder(admin_config.socket, "poise");
  control::Control control(
      std::move(config), {.config_path = "", .state_path = "", .version = POISE_VERSION}, log, {});
  if (auto started = control.start(); !started) {
    log.message(config::LogLevel::error, "not started: {}", started.error().text());
    log.stop();
    return 1;
  }
  {
    admin::Requests requests(control);
    admin::ControlSocket socket(requests, log);
    if (auto started = socket.start(admin_config); started)
      log.message(config::LogLevel::info, "commands: poisectl -s {}", admin_config.socket);
    else
      log.message(config::LogLevel::warning, "no commands: {}", started.error().text());
    control.run();
  }
  log.stop();
  return 0;
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
  config::LoadOptions options;
  options.file = "the command line";
  config::LoadResult loaded = config::load_text(line->config, options);
  if (!loaded.config) {
    for (const config::Problem& problem : loaded.errors)
      fmt::print(stderr, "poise-balance: {}\n", problem.text());
    return kExitUsage;
  }
  if (print) {
    for (const std::string& note : line->notes) fmt::print(stderr, "note: {}\n", note);
    fmt::print("{}", line->config);
    return 0;
  }
  return serve(std::move(*loaded.config), *line);
}
