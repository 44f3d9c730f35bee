/// poised: reads its configuration, becomes who it should be, serves until it is told to stop.

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "admin/control_socket.h"
#include "admin/http_server.h"
#include "command/import_command.h"
#include "command/probe_command.h"
#include "config/keepalived.h"
#include "config/load.h"
#include "config/print.h"
#include "control/commands.h"
#include "control/control.h"
#include "control/ipvs_table.h"
#include "log/log.h"
#include "net/privileges.h"
#include "pair/guard.h"

namespace {

using namespace poise;

constexpr int kExitWarnings = 1, kExitUsage = 2;

struct Arguments {
  std::string config_path = "/etc/poise/poise.json";
  bool check = false;
  bool strict = false;
  bool print_config = false;
  std::vector<std::string> import;  ///< from, what
  ProbeArguments probe;
};

int parse(int argc, char** argv, Arguments& arguments) {
  CLI::App app{"poised - layer-4 load balancer for mail", "poised"};
  app.set_version_flag("--version", "poised " POISE_VERSION);
  app.add_option("-c,--config", arguments.config_path, "The configuration file")
      ->capture_default_str();
  app.add_flag("--check", arguments.check,
               "Check the configuration as a start would, print all that is wrong with it, and "
               "exit: 0 valid, 2 invalid");
  app.add_flag("--strict", arguments.strict, "With --check: exit 1 when there are warnings");
  app.add_flag("--print-config", arguments.print_config,
               "Print the configuration with every default filled in, without secrets, and exit");
  app.add_option(
         "--import", arguments.import,
         "Print somebody else's configuration as a poise.json, say what could not be carried "
         "over, and exit: balance \"COMMAND LINE\", haproxy FILE, alteon FILE")
      ->type_name("FROM WHAT")
      ->expected(2);
  add_probe_options(app, arguments.probe);
  app.footer(
      "Signals: SIGHUP reads the configuration again and changes what it can without touching a "
      "session; SIGTERM and SIGINT stop accepting and let sessions finish for shutdown.drain; a "
      "second one ends them at once.\n"
      "poised stays in the foreground and logs to stderr.");
  // balance's command line may begin with an option of its own, which is none of ours.
  if (argc == 4 && std::string_view(argv[1]) == "--import") {
    arguments.import = {argv[2], argv[3]};
    return -1;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : kExitUsage;
  }
  if (arguments.strict && !arguments.check) {
    fmt::print(stderr, "poised: --strict goes with --check\n");
    return kExitUsage;
  }
  return -1;
}

void print(const std::vector<config::Problem>& problems, const char* kind) {
  for (const config::Problem& problem : problems)
    fmt::print(stderr, "{}: {}\n", kind, problem.text());
}

/// What outlives the process is kept there: the service manager's folder, if it made one.
std::string state_directory() {
  const char* const folders = std::getenv("STATE_DIRECTORY");
  std::string folder = folders != nullptr ? folders : "";
  folder = folder.substr(0, folder.find(':'));
  return folder.empty() ? "/var/lib/poise" : folder;
}

/// How long the service manager waits for a sign of life; 0: it does not.
std::chrono::milliseconds watchdog() {
  std::uint64_t microseconds = 0;
  return std::chrono::milliseconds(::sd_watchdog_enabled(0, &microseconds) > 0 ? microseconds / 1000
                                                                               : 0);
}

/// sd_notify(3); without a service manager nothing happens.
control::Notify service_manager() {
  return {
      .ready = [] { ::sd_notify(0, "READY=1"); },
      .reloading =
          [] {
            const auto now = std::chrono::steady_clock::now().time_since_epoch();
            ::sd_notify(
                0, fmt::format("RELOADING=1\nMONOTONIC_USEC={}", now / std::chrono::microseconds(1))
                       .c_str());
          },
      .stopping =
          [](std::chrono::milliseconds drain) {
            // What comes after the drain takes a moment, too.
            const auto patience = drain + std::chrono::seconds(15);
            ::sd_notify(0, fmt::format("STOPPING=1\nEXTEND_TIMEOUT_USEC={}",
                                       patience / std::chrono::microseconds(1))
                               .c_str());
          },
      .status = [](const std::string& sentence) { ::sd_notify(0, ("STATUS=" + sentence).c_str()); },
      .down = {},
      .alive = [] { ::sd_notify(0, "WATCHDOG=1"); }};
}

int serve(config::Config config, const std::string& config_path,
          const std::vector<config::Problem>& warnings) {
  control::Control::block_signals();  // before any thread
  log::Log log({.level = config.log.level,
                .session_start = config.log.session_start,
                .target = config.log.target,
                .format = config.log.format});
  for (const config::Problem& warning : warnings)
    log.message(config::LogLevel::warning, "{}", warning.text());
  if (config.user.empty() && ::geteuid() == 0)
    log.message(config::LogLevel::warning,
                "running as root: set \"user\" to an account of its own");
  const auto fail = [&](const Error& error) {
    log.message(config::LogLevel::error, "not started: {}", error.text());
    log.stop();
    return 1;
  };
  const config::Admin admin_config = config.admin;
  if (!admin_config.socket.empty()) admin::prepare_folder(admin_config.socket, config.user);
  const bool transparent =
      std::any_of(config.pools.begin(), config.pools.end(),
                  [](const config::Pool& pool) { return pool.source_address.client; });
  if (!config.user.empty())
    if (auto changed = net::become(
            config.user,
            {.bind_low_ports = true, .raw = transparent, .admin = control::any_in_kernel(config)});
        !changed) {
      fmt::print(stderr, "poised: not started: {}\n", changed.error().text());
      return 1;
    }
  // Before any thread: it is a process of its own.
  std::optional<pair::Guard> guard;
  if (config.pair) {
    auto started = pair::Guard::start(config::VrrpFiles::of(config).track);
    if (!started) {
      fmt::print(stderr, "poised: not started: {}\n", started.error().text());
      return 1;
    }
    guard = std::move(*started);
  }
  if (auto started = log.start(); !started) {
    fmt::print(stderr, "poised: not started: {}\n", started.error().text());
    return 1;
  }
  // A reload may happen in another folder than the start.
  std::error_code unknown;
  const std::string path = std::filesystem::absolute(config_path, unknown).string();
  const std::string file = unknown ? config_path : path;
  control::Control control(std::move(config),
                           {.config_path = file,
                            .load = [file] { return config::load_file(file); },
                            .state_directory = state_directory(),
                            .version = POISE_VERSION,
                            .watchdog = watchdog(),
                            .guard = guard ? &*guard : nullptr},
                           log, service_manager());
  if (auto started = control.start(); !started) return fail(started.error());
  {
    admin::Requests requests(control);
    admin::ControlSocket socket(requests, log);
    admin::HttpServer http(requests, log);
    if (!admin_config.socket.empty())
      if (auto started = socket.start(admin_config); !started) return fail(started.error());
    if (admin_config.http)
      if (auto started = http.start(*admin_config.http); !started) return fail(started.error());
    control.run();
  }
  log.stop();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (const int code = parse(argc, argv, arguments); code >= 0) return code;
  if (!arguments.import.empty())
    return run_import_command(arguments.import[0], arguments.import[1]);
  if (!arguments.probe.address.empty()) return run_probe_command(arguments.probe);
  std::string undone;
  if (!arguments.check && !arguments.print_config)
    undone = control::Commands::undo_unfinished_push(arguments.config_path);
  config::LoadResult loaded = config::load_file(arguments.config_path);
  if (!undone.empty())
    loaded.warnings.push_back(
        {.file = arguments.config_path, .line = 0, .column = 0, .pointer = "", .message = undone});
  if (!loaded.config) {
    print(loaded.errors, "error");
    print(loaded.warnings, "warning");
    return kExitUsage;
  }
  if (arguments.check) {
    print(loaded.warnings, "warning");
    fmt::print("{}: valid, {} warnings\n", arguments.config_path, loaded.warnings.size());
    return arguments.strict && !loaded.warnings.empty() ? kExitWarnings : 0;
  }
  if (arguments.print_config) {
    print(loaded.warnings, "warning");
    fmt::print("{}\n", config::print_config(*loaded.config));
    return 0;
  }
  return serve(std::move(*loaded.config), arguments.config_path, loaded.warnings);
}
