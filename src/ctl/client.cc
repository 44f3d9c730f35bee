#include "ctl/client.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace poise::ctl {
namespace {

/// A reload may wait for listeners to close, probes for silent servers; everything else takes
/// milliseconds.
constexpr timeval kPatience{300, 0};

std::string hint(int error, const std::string& path) {
  switch (error) {
    case ENOENT:
      return "is poised running? -s names another socket";
    case ECONNREFUSED:
      return "poised is not running";
    case EACCES:
      return fmt::format("you may not: the owner and the group of {} may", path);
    default:
      return "";
  }
}

}  // namespace

Result<void> Client::connect() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path) return Error{path_, "the path is too long"};
  std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
  fd_ = net::Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (fd_) {
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
    if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
      return {};
  }
  const int error = errno;
  fd_.reset();
  const std::string advice = hint(error, path_);
  return Error{path_,
               fmt::format("{}{}{}", std::strerror(error), advice.empty() ? "" : "; ", advice)};
}

Result<Json> Client::ask(const Json& request) {
  if (!fd_)
    if (auto connected = connect(); !connected) return connected.error();
  const std::string line = request.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  std::size_t sent = 0;
  while (sent < line.size()) {
    const ssize_t now = ::send(fd_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (now < 0 && errno == EINTR) continue;
    if (now <= 0) return Error{path_, "poised hung up"};
    sent += static_cast<std::size_t>(now);
  }
  std::size_t end = 0;
  while ((end = in_.find('\n')) == std::string::npos) {
    std::array<char, 65536> block;
    const ssize_t got = ::recv(fd_.get(), block.data(), block.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return Error{path_, "poised does not answer"};
    if (got <= 0) return Error{path_, "poised hung up"};
    in_.append(block.data(), static_cast<std::size_t>(got));
  }
  Json answer = Json::parse(in_.substr(0, end), nullptr, false);
  in_.erase(0, end + 1);
  if (answer.is_discarded() || !answer.is_object() || !answer.contains("ok"))
    return Error{path_, "what answers there is not poised"};
  return answer;
}

}  // namespace poise::ctl
