#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/problem.h"
#include "poise/config.h"

/// The configuration file: text in, Config or everything that is wrong with it out. Called by
/// control (start, reload, --check) in the main thread; reads files and asks the kernel for the
/// host's name, never DNS.
namespace poise::config {

struct LoadOptions {
  std::string file = "poise.json";      ///< the name in messages
  std::optional<std::string> hostname;  ///< default of "hostname"; absent: machine_hostname()
  std::optional<std::string> node;      ///< which box of a "pair" this is; absent: the host's name
  unsigned cpus = 0;                    ///< to judge "workers" by; 0: those this process may run on
};

struct LoadResult {
  std::optional<Config> config;  ///< set exactly if `errors` is empty
  std::vector<Problem> errors;   ///< in the file's order; of syntax errors only the first
  std::vector<Problem> warnings;
};

LoadResult load_text(std::string_view text, const LoadOptions& options = {});

/// `options.file` is replaced by `path`, and without `options.node` the first line of the file
/// "node" beside it says which box of a pair this is, if there is such a file. A file that can't be
/// read is one error without line and column.
LoadResult load_file(const std::string& path, LoadOptions options = {});

/// The whole file, when it can be read and is not larger than a configuration may be.
std::optional<std::string> file_text(const std::string& path);

}  // namespace poise::config
