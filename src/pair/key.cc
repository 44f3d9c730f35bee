#include "pair/key.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "net/fd.h"

namespace poise::pair {

Result<std::string> read_key(const std::string& path) {
  constexpr std::size_t kMin = 32, kMax = 1024;
  const net::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0)
    return Error{path, fmt::format("the pair's key cannot be read: {}; make one with `openssl rand "
                                   "-hex 32`, the same on both boxes, mode 0640, group poise",
                                   std::strerror(errno))};
  if ((status.st_mode & 0007u) != 0)
    return Error{
        path, fmt::format("everybody on this machine can read the pair's key: chmod o= {}", path)};
  std::array<char, kMax + 2> block;
  const ssize_t got = ::read(fd.get(), block.data(), block.size());
  std::string key(block.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
  key.resize(std::min(key.find_first_of("\r\n"), key.size()));
  if (key.size() < kMin || key.size() > kMax)
    return Error{path, fmt::format("the pair's key has {} characters in its first line, {} to {} "
                                   "are needed: make one with `openssl rand -hex 32`",
                                   key.size(), kMin, kMax)};
  return key;
}

}  // namespace poise::pair
