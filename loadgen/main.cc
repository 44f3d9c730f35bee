#include <fmt/format.h>

#include <csignal>
#include <exception>

#include "loadgen/cli/command.h"

/// poise-load: mail servers and mail clients for tests, demonstrations and measurements.
int main(int argc, char** argv) {
  CLI::App program{
      "Mail-shaped load: servers that count, clients that measure, ledgers that must agree",
      "poise-load"};
  program.require_subcommand(1);
  program.set_version_flag("--version", "poise-load " POISE_VERSION);
  program.failure_message(CLI::FailureMessage::simple);
  poise::loadgen::CommandAction action;
  poise::loadgen::add_serve_command(program, action);
  poise::loadgen::add_run_command(program, action);
  poise::loadgen::add_ledger_command(program, action);
  poise::loadgen::add_compare_command(program, action);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int status = program.exit(error);
    return status == 0 ? 0 : poise::loadgen::kExitUsage;  // 0: help or version was asked for
  }
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return action();
  } catch (const std::exception& error) {
    fmt::print(stderr, "poise-load: {}\n", error.what());
    return 1;
  }
}
