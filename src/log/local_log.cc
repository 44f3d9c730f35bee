#include "log/local_log.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "log/json_line.h"

namespace poise::log {

using config::LogFormat;
using config::LogTarget;

namespace {

constexpr std::size_t kDatagramBytesMax = 48 * 1024;

int severity_of(std::string_view level) {
  if (level == "debug") return LOG_DEBUG;
  if (level == "warning") return LOG_WARNING;
  if (level == "error") return LOG_ERR;
  return LOG_INFO;
}

}  // namespace

LocalLog::LocalLog(LogTarget target, LogFormat format, std::string path)
    : target_(target), format_(format), path_(std::move(path)) {
  if (path_.empty())
    path_ = target_ == LogTarget::journal ? "/run/systemd/journal/socket" : "/dev/log";
}

LocalLog::~LocalLog() {
  if (fd_ >= 0) ::close(fd_);
}

Result<void> LocalLog::open() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path) return Error{path_, "the path is too long"};
  std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
  if (fd_ >= 0) ::close(fd_);
  fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd_ >= 0 && ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return {};
  return Error{"log.target " + path_,
               fmt::format("{}; does {} run here? \"stderr\" always works", std::strerror(errno),
                           target_ == LogTarget::journal ? "systemd-journald" : "a syslog daemon")};
}

void LocalLog::make_datagram(std::string_view line) {
  const LineParts parts = parts_of(line.substr(0, kDatagramBytesMax));
  std::string text(parts.words);
  if (format_ == LogFormat::json) {
    text.clear();
    append_json(text, line.substr(0, kDatagramBytesMax));
    text.pop_back();
  }
  const int severity = severity_of(parts.level);
  datagram_.clear();
  if (target_ == LogTarget::journal) {
    // No newline in any value: lines have none.
    fmt::format_to(std::back_inserter(datagram_),
                   "PRIORITY={}\nSYSLOG_FACILITY={}\nSYSLOG_IDENTIFIER=poised\nSYSLOG_PID={}\n"
                   "MESSAGE={}\n",
                   severity, LOG_MAIL >> 3, ::getpid(), text);
    return;
  }
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  char time[32] = {};
  // Not strftime: its month would follow the locale.
  constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const auto month = kMonths.substr(static_cast<std::size_t>(local.tm_mon) * 3, 3);
  *fmt::format_to_n(time, sizeof time - 1, "{} {:2} {:02}:{:02}:{:02}", month, local.tm_mday,
                    local.tm_hour, local.tm_min, local.tm_sec)
       .out = '\0';
  fmt::format_to(std::back_inserter(datagram_), "<{}>{} poised[{}]: {}", LOG_MAIL | severity, time,
                 ::getpid(), text);
}

LocalLog::Sent LocalLog::send(std::string_view line) {
  make_datagram(line);
  for (int tries = 0;; ++tries) {
    const ssize_t sent =
        ::send(fd_, datagram_.data(), datagram_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return Sent::done;
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) return Sent::stalled;
    const int error = errno;
    if (tries > 0 || !open()) {  // it was restarted: its socket is another one now
      errno = error;
      return Sent::failed;
    }
  }
}

}  // namespace poise::log
