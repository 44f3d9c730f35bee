#pragma once

#include <string>
#include <string_view>

#include "net/fd.h"
#include "poise/result.h"

namespace poise::loadgen {

/// A file of message ids, one a line, appended to: a server that dies and comes back goes on in the
/// same file.
class LedgerFile {
 public:
  LedgerFile() = default;
  static Result<LedgerFile> open(const std::string& path);

  explicit operator bool() const { return static_cast<bool>(fd_); }
  void add(std::string_view id);
  /// Hands what was added to the kernel, so that it outlives this process. False (with errno set)
  /// when it could not; what is not in the file then is dropped.
  bool flush();

 private:
  net::Fd fd_;
  std::string pending_;
};

}  // namespace poise::loadgen
