#pragma once

#include <string>
#include <string_view>

#include "poise/config.h"
#include "poise/result.h"

namespace poise::log {

/// The machine's own log: a datagram a line, to syslog's /dev/log (RFC 3164's header as local
/// daemons read it, facility mail) or to the journal in its own protocol
/// (systemd.io/JOURNAL_NATIVE_PROTOCOL). Log thread only, but for open().
class LocalLog {
 public:
  enum class Sent { done, stalled, failed };

  /// `path`: of the socket; empty: the target's own.
  LocalLog(config::LogTarget target, config::LogFormat format, std::string path);
  ~LocalLog();
  LocalLog(const LocalLog&) = delete;
  LocalLog& operator=(const LocalLog&) = delete;

  Result<void> open();
  /// One text line without its newline. After a restart of the other side it connects again;
  /// `failed` leaves errno.
  Sent send(std::string_view line);
  [[nodiscard]] int fd() const { return fd_; }

 private:
  void make_datagram(std::string_view line);

  config::LogTarget target_;
  config::LogFormat format_;
  std::string path_;
  int fd_ = -1;
  std::string datagram_;
};

}  // namespace poise::log
