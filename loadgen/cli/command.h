#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <string>

#include "loadgen/loop/time.h"
#include "poise/protocol.h"

/// The subcommands. Each adds its options to the program and sets `action`, which main runs if it
/// was chosen; what an action returns is the exit status: 0 well, 1 something failed that the run
/// is about, 2 usage.
namespace poise::loadgen {

using CommandAction = std::function<int()>;

inline constexpr int kExitUsage = 2;

void add_serve_command(CLI::App& program, CommandAction& action);
void add_run_command(CLI::App& program, CommandAction& action);
void add_ledger_command(CLI::App& program, CommandAction& action);
void add_compare_command(CLI::App& program, CommandAction& action);

/// Takes a mail protocol's name; a CLI error lists the names.
Protocol protocol_option(const std::string& name);

/// For durations on the command line: "300ms", "30s", "5m", "1h"; a bare number is seconds. Stored
/// as seconds.
CLI::Validator duration_in_seconds();
/// "4096", "4KiB", "20MiB": stored as bytes.
CLI::Validator size_in_bytes();
/// "500" or "500/s".
CLI::Validator rate_per_second();

/// Writes `text` to the file, or to the standard output if it is "-". False after saying why not.
bool write_result(const std::string& path, const std::string& text);

}  // namespace poise::loadgen
