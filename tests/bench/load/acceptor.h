#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "loop.h"

namespace bench {

/// Accepts on one address and hands each connection, non-blocking, to `Handler::on_accept(fd)`,
/// which owns it from then on.
template <typename Handler>
class Acceptor final : public Source {
 public:
  Acceptor(Loop& loop, const sockaddr_in& address, Handler& handler)
      : handler_(handler), fd_(listen_on(address)) {
    loop.add(fd_, EPOLLIN, this);
  }
  ~Acceptor() { close(fd_); }
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  void on_event(std::uint32_t) override {
    // Bounded: the connections already open must go on too.
    for (int i = 0; i < 16; ++i) {
      const int fd = accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) {
        if (errno == EAGAIN || errno == ECONNABORTED) return;
        fail_errno("accept");
      }
      ++accepted_;
      handler_.on_accept(fd);
    }
  }

  [[nodiscard]] std::uint64_t accepted() const { return accepted_; }

 private:
  Handler& handler_;
  int fd_;
  std::uint64_t accepted_ = 0;
};

}  // namespace bench
