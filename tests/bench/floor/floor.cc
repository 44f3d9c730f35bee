/// What the kernel alone charges for the socket calls of one proxied SMTP session, on this machine:
/// the sum is the floor below which no proxy that opens a second connection can go, whatever it
/// does in user space.
///
///     build/bin/bench_floor
///
/// Each call is timed in a loop over many loopback connections, so that memory is as cold as a
/// proxy finds it; the other end of each connection waits in an epoll set, as a client's or a
/// server's does.

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

namespace {

constexpr int kConnections = 64, kRounds = 60;

void require(bool condition, const char* what) {
  if (condition) return;
  std::perror(what);
  std::exit(1);
}

struct Timing {
  double seconds = 0;
  long count = 0;
  [[nodiscard]] double us() const {
    return count == 0 ? 0 : seconds * 1e6 / static_cast<double>(count);
  }
};

double cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

template <class Work>
void timed(Timing& timing, int count, Work&& work) {
  const double began = cpu_seconds();
  work();
  timing.seconds += cpu_seconds() - began;
  timing.count += count;
}

}  // namespace

int main() {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const int on = 1;
  ::setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  require(::bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0, "bind");
  require(::listen(listener, 1024) == 0, "listen");
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);

  Timing open, connect, accept, send_small, send_body, receive, receive_body, shut, close_second,
      close_first;
  std::array<char, 4200> bytes{};
  const int waiter = ::epoll_create1(0);
  for (int round = 0; round < kRounds; ++round) {
    std::vector<int> ours(kConnections), theirs(kConnections);
    timed(open, kConnections, [&] {
      for (int& fd : ours) {
        fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      }
    });
    timed(connect, kConnections, [&] {
      for (const int fd : ours)
        ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
    });
    timed(accept, kConnections, [&] {
      for (int& fd : theirs) fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
    });
    for (const int fd : theirs) {
      require(fd >= 0, "accept");
      epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.fd = fd}};
      require(::epoll_ctl(waiter, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
    }
    const auto drain = [&] {
      std::array<epoll_event, kConnections> events;
      ::epoll_wait(waiter, events.data(), kConnections, 0);
    };
    // The replies and commands of a session go one way and the other in turn, so that
    // acknowledgements ride along.
    for (int message = 0; message < 6; ++message) {
      timed(send_small, kConnections, [&] {
        for (const int fd : ours) require(::send(fd, bytes.data(), 40, MSG_DONTWAIT) == 40, "send");
      });
      drain();
      timed(receive, kConnections, [&] {
        for (const int fd : theirs)
          require(::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT) == 40, "recv");
      });
      for (const int fd : theirs) require(::send(fd, bytes.data(), 40, MSG_DONTWAIT) == 40, "send");
      for (const int fd : ours)
        require(::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT) == 40, "recv");
    }
    timed(send_body, kConnections, [&] {
      for (const int fd : ours)
        require(::send(fd, bytes.data(), 4096, MSG_DONTWAIT) == 4096, "send");
    });
    drain();
    timed(receive_body, kConnections, [&] {
      for (const int fd : theirs)
        require(::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT) == 4096, "recv");
    });
    timed(shut, kConnections, [&] {
      for (const int fd : ours) ::shutdown(fd, SHUT_WR);
    });
    drain();
    timed(close_first, kConnections, [&] {
      for (const int fd : theirs) ::close(fd);
    });
    timed(close_second, kConnections, [&] {
      for (const int fd : ours) ::close(fd);
    });
  }
  const double sum = open.us() + connect.us() + accept.us() + 12 * send_small.us() +
                     send_body.us() + 12 * receive.us() + receive_body.us() + shut.us() +
                     close_first.us() + close_second.us();
  const double short_sum = open.us() + connect.us() + accept.us() + 3 * send_small.us() +
                           3 * receive.us() + shut.us() + close_first.us() + close_second.us();
  std::printf(
      "socket+nodelay %.2f  connect %.2f  accept %.2f  send 40 B %.2f  send 4 KiB %.2f  recv 40 B "
      "%.2f  recv 4 KiB %.2f  "
      "shutdown %.2f  close (sends FIN) %.2f  close (both done) %.2f us\n",
      open.us(), connect.us(), accept.us(), send_small.us(), send_body.us(), receive.us(),
      receive_body.us(), shut.us(), close_first.us(), close_second.us());
  std::printf("floor of a proxied SMTP session (13 receives, 13 sends): %.1f us\n", sum);
  std::printf("floor of connect, greeting, QUIT (3 receives, 3 sends): %.1f us\n", short_sum);
  return 0;
}
