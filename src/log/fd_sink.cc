#include "log/fd_sink.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <poll.h>
#include <spdlog/details/log_msg.h>
#include <spdlog/pattern_formatter.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "log/json_line.h"

namespace poise::log {

namespace {

std::unique_ptr<spdlog::formatter> event_formatter() {
  return std::make_unique<spdlog::pattern_formatter>("%Y-%m-%dT%H:%M:%S.%eZ %l %v",
                                                     spdlog::pattern_time_type::utc, "\n");
}

}  // namespace

FdSink::FdSink(std::unique_ptr<LocalLog> local)
    : local_(std::move(local)), formatter_(event_formatter()) {
  buffer_.reserve(kBatchBytes * 2);
}

FdSink::FdSink(int fd, config::LogFormat format)
    : format_(format), fd_(fd), formatter_(event_formatter()) {
  buffer_.reserve(kBatchBytes * 2);

  struct stat status {};
  const int flags = ::fcntl(fd_, F_GETFL);
  if (::fstat(fd_, &status) != 0) {
    kind_ = Kind::nonblocking;  // closed: write(2) will say so
  } else if (S_ISSOCK(status.st_mode)) {
    kind_ = Kind::socket;
  } else if (S_ISREG(status.st_mode)) {
    kind_ = Kind::file;
  } else if (flags >= 0 && (flags & O_NONBLOCK) != 0) {
    kind_ = Kind::nonblocking;
  } else {
    // Refused when the pipe or terminal belongs to the user we were before; a pipe without reader
    // is ENXIO.
    const std::string path = fmt::format("/proc/self/fd/{}", fd_);
    const int again = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (again >= 0) {
      fd_ = again;
      owned_ = true;
      kind_ = Kind::nonblocking;
    }
  }
}

FdSink::~FdSink() {
  if (owned_) ::close(fd_);
}

char* FdSink::append_begin(std::size_t bytes) {
  buffer_.reserve(buffer_.size() + bytes);
  return buffer_.data() + buffer_.size();
}

void FdSink::append_end(char* end) {
  buffer_.resize(static_cast<std::size_t>(end - buffer_.data()));
}

/// The same lines in the other form, in place; they are as many. Only at the start of a write.
void FdSink::turn_into_json() {
  json_.clear();
  std::string_view rest(buffer_.data(), buffer_.size());
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    append_json(json_, rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  buffer_.clear();
  buffer_.append(json_.data(), json_.data() + json_.size());
}

FdSink::Progress FdSink::send_lines() {
  while (written_ < buffer_.size()) {
    const std::string_view rest(buffer_.data() + written_, buffer_.size() - written_);
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    switch (local_->send(rest.substr(0, end))) {
      case LocalLog::Sent::stalled:
        return Progress::stalled;
      case LocalLog::Sent::failed:
        last_error_ = errno;
        ++lost_lines_;
        break;
      case LocalLog::Sent::done:
        break;
    }
    written_ += std::min(end + 1, rest.size());
  }
  buffer_.clear();
  written_ = 0;
  return Progress::done;
}

FdSink::Progress FdSink::write_out() {
  if (local_) return send_lines();
  // Log drains the buffer before it puts more lines in, so all of it is still text.
  if (format_ == config::LogFormat::json && !in_json_) {
    turn_into_json();
    in_json_ = true;
  }
  while (written_ < buffer_.size()) {
    // Torn at the very start of a buffer: an error cut the last line of the buffer before. What
    // comes now must not continue it.
    const bool heal = torn_ && written_ == 0;
    const std::ptrdiff_t count =
        heal ? write_some("\n", 1)
             : write_some(buffer_.data() + written_, buffer_.size() - written_);
    if (count > 0) {
      if (!heal) written_ += static_cast<std::size_t>(count);
      torn_ = !heal && buffer_[written_ - 1] != '\n';
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Progress::stalled;
    last_error_ = count < 0 ? errno : EIO;
    abandon();
  }
  buffer_.clear();
  written_ = 0;
  in_json_ = false;
  return Progress::done;
}

std::ptrdiff_t FdSink::write_some(const char* data, std::size_t size) {
  switch (kind_) {
    case Kind::socket:
      return ::send(fd_, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    case Kind::nonblocking:
    case Kind::file:
      return ::write(fd_, data, size);
    case Kind::blocking: {
      // A pipe is writable when a whole page is free, and PIPE_BUF fits into it.
      pollfd writable{fd_, POLLOUT, 0};
      if (::poll(&writable, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
      }
      return ::write(fd_, data, std::min<std::size_t>(size, PIPE_BUF));
    }
  }
  return -1;
}

void FdSink::abandon() {
  // A line of which a part went out is lost too.
  lost_lines_ += static_cast<std::uint64_t>(
      std::count(buffer_.data() + written_, buffer_.data() + buffer_.size(), '\n'));
  buffer_.clear();
  written_ = 0;
  in_json_ = false;
}

std::uint64_t FdSink::take_lost_lines() {
  return std::exchange(lost_lines_, 0);
}

void FdSink::log(const spdlog::details::log_msg& message) {
  formatter_->format(message, buffer_);
}

void FdSink::flush() {
  static_cast<void>(write_out());
}

void FdSink::set_pattern(const std::string& pattern) {
  set_formatter(
      std::make_unique<spdlog::pattern_formatter>(pattern, spdlog::pattern_time_type::utc, "\n"));
}

void FdSink::set_formatter(std::unique_ptr<spdlog::formatter> formatter) {
  formatter_ = std::move(formatter);
}

}  // namespace poise::log
