#pragma once

#include <string>

namespace poise {

/// `poised --import FROM WHAT`: somebody else's configuration as a poise.json on standard output,
/// and what could not be carried over on standard error. `from`: balance (WHAT is its command
/// line), haproxy or alteon (WHAT is a file, "-" standard input). The exit code: 0 done, 1 WHAT
/// can't be read, 2 it can't be understood, or what came out is not valid.
int run_import_command(const std::string& from, const std::string& what);

}  // namespace poise
