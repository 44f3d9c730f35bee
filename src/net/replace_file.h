#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "poise/result.h"

namespace poise::net {

struct Replacing {
  mode_t mode;           ///< of the new file, whatever the umask
  bool durable = false;  ///< survives a power cut, not only our end; waits for the disk
};

/// Puts a file with `text` in the place of `path`, or of nothing. It is written beside
/// (`path`.new) and renamed, so that whoever reads finds the old file or the new one, whole. On
/// failure the old one stays and nothing is left beside it; the error names the file and what the
/// kernel said.
Result<void> replace_file(const std::string& path, std::string_view text, Replacing how);

}  // namespace poise::net
