#include "loadgen/ledger/ledger_file.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

namespace poise::loadgen {

Result<LedgerFile> LedgerFile::open(const std::string& path) {
  LedgerFile file;
  file.fd_ = net::Fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!file.fd_) return Error{"ledger " + path, std::strerror(errno)};
  return file;
}

void LedgerFile::add(std::string_view id) {
  pending_.append(id);
  pending_.push_back('\n');
}

bool LedgerFile::flush() {
  std::string_view left = pending_;
  while (!left.empty()) {
    const ssize_t wrote = write(fd_.get(), left.data(), left.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      pending_.clear();
      return false;
    }
    left.remove_prefix(static_cast<std::size_t>(wrote));
  }
  pending_.clear();
  return true;
}

}  // namespace poise::loadgen
