#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "acceptor.h"
#include "shapes.h"

namespace bench {
namespace {

constexpr std::size_t kPingBytes = 64;

/// 64-byte messages, each echoed by the server. Closed loop: every connection has one on the way.
/// At a rate: a tick each millisecond sends its share on the next connections in turn, whatever is
/// still on the way; a connection with a ping outstanding is passed over and counted late.
class Pings {
 public:
  Pings(Loop& loop, const Options& options) : loop_(loop), options_(options), ticker_(*this) {
    for (const sockaddr_in& address : options.servers)
      acceptors_.push_back(std::make_unique<Acceptor<Pings>>(loop, address, *this));
  }

  void connect() {
    for (unsigned i = 0; i < options_.connections; ++i) {
      clients_.push_back(std::make_unique<Client>(*this));
      clients_.back()->open(options_.targets[i % options_.targets.size()]);
      to_send_ = 1;
      answered_ = 0;
      loop_.run_until([this] { return answered_ == 1; }, options_.limit, "no echo");
    }
    to_send_ = 0;
  }

  void run(std::uint64_t count) {
    answered_ = 0;
    to_send_ = count;
    latencies_.clear();
    latencies_.reserve(count);
    if (options_.rate > 0) {
      ticker_.start();
    } else {
      for (const auto& client : clients_)
        if (to_send_ > 0) client->ping();
    }
    loop_.run_until([this, count] { return answered_ == count; }, options_.limit,
                    "echoes don't come");
    ticker_.stop();
  }

  void on_accept(int fd) { echoes_.push_back(std::make_unique<Echo>(loop_, fd)); }

  std::vector<float>& latencies() { return latencies_; }
  [[nodiscard]] std::uint64_t answered() const { return answered_; }
  [[nodiscard]] std::vector<std::uint64_t> accepted() const {
    std::vector<std::uint64_t> out;
    for (const auto& acceptor : acceptors_) out.push_back(acceptor->accepted());
    return out;
  }

 private:
  class Echo final : public Source {
   public:
    Echo(Loop& loop, int fd) : loop_(loop), fd_(fd) { loop_.add(fd_, EPOLLIN, this); }
    ~Echo() { close(fd_); }

    void on_event(std::uint32_t) override {
      std::array<char, 1024> buffer;
      const ssize_t got = recv(fd_, buffer.data(), buffer.size(), 0);
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) {
        loop_.change(fd_, EPOLLET, this);  // a health probe that only connects
        return;
      }
      if (send(fd_, buffer.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL) != got)
        fail_errno("echo");
    }

   private:
    Loop& loop_;
    int fd_;
  };

  class Client final : public Source {
   public:
    explicit Client(Pings& all) : all_(all) {}
    ~Client() {
      if (fd_ >= 0) close(fd_);
    }

    void open(const sockaddr_in& target) {
      fd_ = connect_to(target);
      if (fd_ < 0) fail_errno("connect");
      all_.loop_.add(fd_, EPOLLOUT, this);
      connecting_ = true;
    }

    void ping() {
      --all_.to_send_;
      message_.fill(static_cast<char>('a' + sequence_++ % 26));
      filled_ = 0;
      busy_ = true;
      sent_ = Clock::now();
      if (send(fd_, message_.data(), kPingBytes, MSG_NOSIGNAL) != kPingBytes) fail_errno("send");
    }

    void on_event(std::uint32_t) override {
      if (connecting_) {
        connecting_ = false;
        all_.loop_.change(fd_, EPOLLIN, this);
        return ping();
      }
      const ssize_t got = recv(fd_, reply_.data() + filled_, kPingBytes - filled_, 0);
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) fail(got == 0 ? "a connection ended early" : "recv failed");
      filled_ += static_cast<std::size_t>(got);
      if (filled_ < kPingBytes) return;
      if (reply_ != message_) fail("a changed echo");
      busy_ = false;
      all_.latencies_.push_back(
          std::chrono::duration<float, std::micro>(Clock::now() - sent_).count());
      ++all_.answered_;
      if (all_.options_.rate == 0 && all_.to_send_ > 0) ping();
    }

    [[nodiscard]] bool busy() const { return busy_; }

   private:
    Pings& all_;
    int fd_ = -1;
    bool connecting_ = false;
    bool busy_ = false;
    unsigned sequence_ = 0;
    std::size_t filled_ = 0;
    Clock::time_point sent_;
    std::array<char, kPingBytes> message_{};
    std::array<char, kPingBytes> reply_{};
  };

  class Ticker final : public Source {
   public:
    explicit Ticker(Pings& all)
        : all_(all), fd_(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)) {
      if (fd_ < 0) fail_errno("timerfd_create");
      all_.loop_.add(fd_, EPOLLIN, this);
    }
    ~Ticker() { close(fd_); }

    void start() { set(1'000'000); }
    void stop() { set(0); }

    void on_event(std::uint32_t) override {
      std::uint64_t ticks = 0;
      if (read(fd_, &ticks, sizeof ticks) != sizeof ticks) return;
      const std::uint64_t due = ticks * std::max(1u, all_.options_.rate / 1000);
      for (std::uint64_t i = 0; i < due && all_.to_send_ > 0; ++i) {
        Client& client = *all_.clients_[next_++ % all_.clients_.size()];
        if (!client.busy()) client.ping();
      }
    }

   private:
    void set(long nanoseconds) {
      itimerspec spec{};
      spec.it_value.tv_nsec = nanoseconds;
      spec.it_interval.tv_nsec = nanoseconds;
      if (timerfd_settime(fd_, 0, &spec, nullptr) < 0) fail_errno("timerfd_settime");
    }

    Pings& all_;
    int fd_;
    std::size_t next_ = 0;
  };

  Loop& loop_;
  const Options& options_;
  Ticker ticker_;
  std::vector<std::unique_ptr<Acceptor<Pings>>> acceptors_;
  std::vector<std::unique_ptr<Echo>> echoes_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::uint64_t to_send_ = 0;
  std::uint64_t answered_ = 0;
  std::vector<float> latencies_;
};

}  // namespace

Result run_ping(Loop& loop, const Options& options) {
  Pings pings(loop, options);
  loop.mark("listening");
  pings.connect();
  pings.run(options.warmup);
  loop.settle(std::chrono::milliseconds(30));
  loop.mark("begin");
  const double cpu = own_cpu_seconds();
  const Clock::time_point begin = Clock::now();
  pings.run(options.count);
  Result result;
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  result.own_cpu_seconds = own_cpu_seconds() - cpu;
  loop.settle(std::chrono::milliseconds(30));
  loop.mark("end");
  result.operations = pings.answered();
  std::vector<float>& latencies = pings.latencies();
  std::sort(latencies.begin(), latencies.end());
  result.latency_p50_us = percentile(latencies, 0.5);
  result.latency_p99_us = percentile(latencies, 0.99);
  result.accepted = pings.accepted();
  return result;
}

}  // namespace bench
