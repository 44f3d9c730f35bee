#include "net/replace_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "net/fd.h"

namespace poise::net {
namespace {

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

bool write_new(const std::string& path, std::string_view text, Replacing how) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  return fd && ::fchmod(fd.get(), how.mode) == 0 && write_all(fd.get(), text) &&
         (!how.durable || ::fsync(fd.get()) == 0);
}

/// A rename is an entry of the folder: it is on the disk when the folder is.
bool sync_folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path();
  const Fd fd(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return fd && ::fsync(fd.get()) == 0;
}

}  // namespace

Result<void> replace_file(const std::string& path, std::string_view text, Replacing how) {
  const std::string fresh = path + ".new";
  ::unlink(fresh.c_str());  // of one who was cut off
  if (!write_new(fresh, text, how) || ::rename(fresh.c_str(), path.c_str()) != 0) {
    const int error = errno;
    ::unlink(fresh.c_str());
    return Error{path, fmt::format("cannot be written: {}", std::strerror(error))};
  }
  if (how.durable && !sync_folder_of(path))
    return Error{path,
                 fmt::format("is written but may not survive a power cut: its folder cannot be "
                             "synchronized: {}",
                             std::strerror(errno))};
  return {};
}

}  // namespace poise::net
