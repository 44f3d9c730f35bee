#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "acceptor.h"
#include "shapes.h"

namespace bench {
namespace {

constexpr std::size_t kChunkBytes = 64 * 1024;

/// The byte at an offset of any stream; the period is not a power of two, so that a buffer sent
/// twice or left out shows.
char byte_at(std::uint64_t offset) {
  return static_cast<char>(offset % 251);
}

/// One end of each connection writes its share of a phase, the other reads and checks it.
class Bulk {
 public:
  Bulk(Loop& loop, const Options& options)
      : loop_(loop), options_(options), pattern_(kChunkBytes + 251), sink_(kChunkBytes) {
    for (std::size_t i = 0; i < pattern_.size(); ++i) pattern_[i] = byte_at(i);
    for (const sockaddr_in& address : options.servers)
      acceptors_.push_back(std::make_unique<Acceptor<Bulk>>(loop, address, *this));
  }

  /// Opens all connections; each sends one byte to the server, so that both ends are known to be
  /// through.
  void connect() {
    for (unsigned i = 0; i < options_.connections; ++i) {
      const int fd = connect_to(options_.targets[i % options_.targets.size()]);
      if (fd < 0) fail_errno("connect");
      clients_.push_back(std::make_unique<End>(*this, fd, options_.shape == Shape::bulk_up));
    }
    for (const auto& client : clients_) client->hello();
    loop_.run_until([this] { return greeted_ == options_.connections; }, options_.limit,
                    "connections don't reach the servers");
  }

  /// Moves `bytes` in all, split evenly. Returns what was moved.
  std::uint64_t run(std::uint64_t bytes) {
    const std::uint64_t share = bytes / options_.connections;
    finished_ = 0;
    for (const auto& end : clients_) end->begin(share);
    for (End* end : greeted_servers_) end->begin(share);
    loop_.run_until([this] { return finished_ == options_.connections; }, options_.limit,
                    "bytes don't arrive");
    return share * options_.connections;
  }

  void on_accept(int fd) {
    servers_.push_back(std::make_unique<End>(*this, fd, options_.shape == Shape::bulk_down));
    servers_.back()->await_hello();
  }

  [[nodiscard]] std::vector<std::uint64_t> accepted() const {
    std::vector<std::uint64_t> out;
    for (const auto& acceptor : acceptors_) out.push_back(acceptor->accepted());
    return out;
  }

 private:
  class End final : public Source {
   public:
    End(Bulk& all, int fd, bool writes) : all_(all), fd_(fd), writes_(writes) {}
    ~End() { close(fd_); }

    void hello() {
      hello_pending_ = true;
      all_.loop_.add(fd_, EPOLLOUT, this);
    }
    void await_hello() {
      awaits_hello_ = true;
      all_.loop_.add(fd_, EPOLLIN, this);
    }
    void begin(std::uint64_t share) {
      left_ = share;
      all_.loop_.change(fd_, writes_ ? EPOLLOUT : EPOLLIN, this);
    }

    void on_event(std::uint32_t) override {
      if (awaits_hello_) return take_hello();
      if (hello_pending_) return send_hello();
      if (left_ == 0) return on_surplus();
      writes_ ? write_some() : read_some();
    }

   private:
    void send_hello() {
      if (send(fd_, "h", 1, MSG_NOSIGNAL) != 1) fail_errno("first byte to the server");
      hello_pending_ = false;
      all_.loop_.change(fd_, 0, this);
    }

    void take_hello() {
      char byte;
      const ssize_t got = recv(fd_, &byte, 1, 0);
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) {
        // A health probe that only connects. The object stays until the end; the socket goes quiet.
        all_.loop_.change(fd_, EPOLLET, this);
        return;
      }
      awaits_hello_ = false;
      all_.loop_.change(fd_, 0, this);
      all_.greeted_servers_.push_back(this);
      ++all_.greeted_;
    }

    void write_some() {
      const char* from = all_.pattern_.data() + offset_ % 251;
      const std::size_t size = left_ < kChunkBytes ? static_cast<std::size_t>(left_) : kChunkBytes;
      const ssize_t sent = send(fd_, from, size, MSG_NOSIGNAL);
      if (sent < 0) {
        if (errno == EAGAIN) return;
        fail_errno("send");
      }
      offset_ += static_cast<std::uint64_t>(sent);
      left_ -= static_cast<std::uint64_t>(sent);
      if (left_ == 0) all_.loop_.change(fd_, 0, this);
    }

    void read_some() {
      const ssize_t got = recv(fd_, all_.sink_.data(), kChunkBytes, 0);
      if (got == 0) fail("a connection ended early");
      if (got < 0) {
        if (errno == EAGAIN) return;
        fail_errno("recv");
      }
      const auto size = static_cast<std::uint64_t>(got);
      // Both ends of each piece: enough to see a shift, cheap enough not to count. Whole streams
      // are compared by the relay test.
      if (size > left_ || all_.sink_[0] != byte_at(offset_) ||
          all_.sink_[size - 1] != byte_at(offset_ + size - 1))
        fail("changed bytes near offset " + std::to_string(offset_));
      offset_ += size;
      left_ -= size;
      if (left_ == 0) ++all_.finished_;
    }

    void on_surplus() {
      char byte;
      const ssize_t got = recv(fd_, &byte, 1, 0);
      if (got < 0 && errno == EAGAIN) return;
      fail(got == 0 ? "a connection ended early" : "an idle connection got bytes or an error");
    }

    Bulk& all_;
    int fd_;
    bool writes_;
    bool awaits_hello_ = false;
    bool hello_pending_ = false;
    std::uint64_t left_ = 0;
    std::uint64_t offset_ = 0;
  };

  Loop& loop_;
  const Options& options_;
  std::vector<char> pattern_;
  std::vector<char> sink_;
  std::vector<std::unique_ptr<Acceptor<Bulk>>> acceptors_;
  std::vector<std::unique_ptr<End>> clients_;
  std::vector<std::unique_ptr<End>> servers_;
  std::vector<End*> greeted_servers_;
  unsigned greeted_ = 0;
  unsigned finished_ = 0;
};

}  // namespace

Result run_bulk(Loop& loop, const Options& options) {
  Bulk bulk(loop, options);
  loop.mark("listening");
  bulk.connect();
  bulk.run(options.warmup);
  loop.settle(std::chrono::milliseconds(30));
  loop.mark("begin");
  const double cpu = own_cpu_seconds();
  const Clock::time_point begin = Clock::now();
  Result result;
  result.operations = bulk.run(options.count);
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  result.own_cpu_seconds = own_cpu_seconds() - cpu;
  loop.settle(std::chrono::milliseconds(30));
  loop.mark("end");
  result.accepted = bulk.accepted();
  return result;
}

}  // namespace bench
