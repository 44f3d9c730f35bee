#pragma once

#include <spdlog/common.h>
#include <spdlog/formatter.h>
#include <spdlog/sinks/sink.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "log/local_log.h"
#include "poise/config.h"

namespace poise::log {

/// Lines to a file descriptor (stderr: a terminal, a pipe, a file, a socket to the journal),
/// collected in one buffer and written with few system calls, never blocking where the kernel lets
/// us: the buffer is written as far as it goes and `stalled` says that the rest has to wait.
///
/// Its place is that of a spdlog sink, so that spdlog's own journal and syslog sinks fit beside it.
/// Event lines come in through log(); session lines are put into the buffer by their formatter
/// directly. Log thread only.
class FdSink final : public spdlog::sinks::sink {
 public:
  enum class Progress : std::uint8_t {
    done,     ///< the buffer is empty: all was written, or lost for good
    stalled,  ///< the reader is slow: wait for POLLOUT on fd()
  };

  /// write_out() is worth its system call from here on.
  static constexpr std::size_t kBatchBytes = 64 * 1024;

  /// `fd` stays the caller's and must stay open. A pipe or terminal that isn't non-blocking is
  /// opened a second time, for O_NONBLOCK belongs to the open file, which is shared with whoever
  /// gave it to us.
  explicit FdSink(int fd, config::LogFormat format = config::LogFormat::text);
  /// To the machine's own log instead: a datagram a line. `local` is open.
  explicit FdSink(std::unique_ptr<LocalLog> local);
  ~FdSink() override;
  FdSink(const FdSink&) = delete;
  FdSink& operator=(const FdSink&) = delete;

  /// Room for `bytes` more at the end of the buffer; append_end() tells how far it was used.
  [[nodiscard]] char* append_begin(std::size_t bytes);
  void append_end(char* end);
  [[nodiscard]] std::size_t buffered_bytes() const { return buffer_.size() - written_; }

  [[nodiscard]] Progress write_out();

  /// Forgets what is buffered and counts it as lost; for a stop that can't wait for the reader.
  void abandon();

  [[nodiscard]] int fd() const { return local_ ? local_->fd() : fd_; }

  /// Lines that an error of the output (ENOSPC, EPIPE, EIO) or abandon() cost since it was last
  /// asked.
  [[nodiscard]] std::uint64_t take_lost_lines();

  /// errno of the last such error; 0: none yet.
  [[nodiscard]] int last_error() const { return last_error_; }

  // --- spdlog::sinks::sink
  void log(const spdlog::details::log_msg& message) override;
  void flush() override;
  void set_pattern(const std::string& pattern) override;
  void set_formatter(std::unique_ptr<spdlog::formatter> formatter) override;

 private:
  enum class Kind : std::uint8_t {
    nonblocking,  ///< write(2) returns EAGAIN
    socket,       ///< send(2) with MSG_DONTWAIT
    file,         ///< a regular file: write(2) waits for memory at worst, there is no other way
    blocking,     ///< could not be opened again: poll(2) first, then what fits into a writable pipe
  };

  [[nodiscard]] std::ptrdiff_t write_some(const char* data, std::size_t size);
  [[nodiscard]] Progress send_lines();
  void turn_into_json();

  std::unique_ptr<LocalLog> local_;
  config::LogFormat format_ = config::LogFormat::text;
  std::string json_;
  bool in_json_ = false;  ///< the buffer has been turned, and not been written whole
  int fd_ = -1;
  bool owned_ = false;  ///< fd_ is our second opening
  Kind kind_ = Kind::blocking;
  spdlog::memory_buf_t buffer_;
  std::size_t written_ = 0;  ///< of buffer_
  bool torn_ = false;        ///< the last byte that went out did not end a line
  std::uint64_t lost_lines_ = 0;
  int last_error_ = 0;
  std::unique_ptr<spdlog::formatter> formatter_;
};

}  // namespace poise::log
