#include "loop.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace bench {

void fail(const std::string& what) {
  std::string escaped;
  for (char c : what) {
    if (c == '"' || c == '\\') escaped += '\\';
    if (static_cast<unsigned char>(c) >= ' ') escaped += c;
  }
  std::printf("{\"error\": \"%s\"}\n", escaped.c_str());
  std::fflush(stdout);
  std::_Exit(1);
}

void fail_errno(const std::string& what) {
  fail(what + ": " + std::strerror(errno));
}

Loop::Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_ < 0) fail_errno("epoll_create1");
}

Loop::~Loop() {
  close(epoll_);
}

void Loop::add(int fd, std::uint32_t events, Source* source) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = source;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) < 0) fail_errno("epoll_ctl add");
}

void Loop::change(int fd, std::uint32_t events, Source* source) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = source;
  if (epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event) < 0) fail_errno("epoll_ctl mod");
}

void Loop::turn(int timeout_ms) {
  std::array<epoll_event, kEventsMax> events;
  const int count = epoll_wait(epoll_, events.data(), kEventsMax, timeout_ms);
  if (count < 0) {
    if (errno == EINTR) return;
    fail_errno("epoll_wait");
  }
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    static_cast<Source*>(event.data.ptr)->on_event(event.events);
  }
}

void Loop::settle(std::chrono::milliseconds time) {
  const Clock::time_point end = Clock::now() + time;
  while (Clock::now() < end) turn(5);
}

void Loop::mark(const char* stage) {
  std::printf("%s\n", stage);
  std::fflush(stdout);
  if (by_hand_) return;
  for (;;) {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    if (poll(&input, 1, 0) > 0) {
      char line[64];
      if (read(STDIN_FILENO, line, sizeof line) <= 0) std::_Exit(1);  // the harness is gone
      return;
    }
    turn(1);
  }
}

std::vector<sockaddr_in> parse_addresses(const std::string& list) {
  std::vector<sockaddr_in> out;
  for (std::size_t at = 0; at < list.size();) {
    const std::size_t comma = std::min(list.find(',', at), list.size());
    const std::string item = list.substr(at, comma - at);
    const std::size_t colon = item.find(':');
    sockaddr_in address{};
    address.sin_family = AF_INET;
    if (colon == std::string::npos ||
        inet_pton(AF_INET, item.substr(0, colon).c_str(), &address.sin_addr) != 1)
      fail("not an address: " + item);
    const int port = std::atoi(item.c_str() + colon + 1);
    if (port < 1 || port > 65535) fail("not a port: " + item);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    out.push_back(address);
    at = comma + 1;
  }
  return out;
}

namespace {

void enable(int fd, int level, int option) {
  const int on = 1;
  if (setsockopt(fd, level, option, &on, sizeof on) < 0) fail_errno("setsockopt");
}

const sockaddr* as_sockaddr(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

}  // namespace

int listen_on(const sockaddr_in& address) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) fail_errno("socket");
  enable(fd, SOL_SOCKET, SO_REUSEADDR);
  enable(fd, IPPROTO_TCP, TCP_NODELAY);  // inherited by what it accepts
  if (bind(fd, as_sockaddr(address), sizeof address) < 0)
    fail_errno("bind to port " + std::to_string(ntohs(address.sin_port)));
  if (listen(fd, 65535) < 0) fail_errno("listen");
  return fd;
}

int connect_to(const sockaddr_in& address) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) fail_errno("socket");
  if (connect(fd, as_sockaddr(address), sizeof address) == 0 || errno == EINPROGRESS) return fd;
  close(fd);
  return -1;
}

double own_cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double speed_probe_us(std::chrono::milliseconds time) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (listener < 0 || bind(listener, as_sockaddr(address), length) < 0 || listen(listener, 1) < 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) < 0)
    fail_errno("speed probe");
  const int left = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (left < 0 || connect(left, as_sockaddr(address), length) < 0) fail_errno("speed probe");
  const int right = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (right < 0) fail_errno("speed probe");
  close(listener);
  enable(left, IPPROTO_TCP, TCP_NODELAY);
  enable(right, IPPROTO_TCP, TCP_NODELAY);

  // The median of many short stretches: one interruption must not count as a slow machine.
  constexpr int kStretch = 50;
  std::vector<float> samples;
  std::array<char, 64> message{};
  const auto pass = [&message](int from, int to) {
    if (send(from, message.data(), message.size(), 0) != static_cast<ssize_t>(message.size()) ||
        recv(to, message.data(), message.size(), MSG_WAITALL) !=
            static_cast<ssize_t>(message.size()))
      fail_errno("speed probe");
  };
  const Clock::time_point end = Clock::now() + time;
  for (Clock::time_point start = Clock::now(); start < end;) {
    for (int i = 0; i < kStretch; ++i) {
      pass(left, right);
      pass(right, left);
    }
    const Clock::time_point now = Clock::now();
    samples.push_back(std::chrono::duration<float, std::micro>(now - start).count() / kStretch);
    start = now;
  }
  close(left);
  close(right);
  std::sort(samples.begin(), samples.end());
  return percentile(samples, 0.5);
}

double percentile(std::vector<float>& sorted_samples, double fraction) {
  if (sorted_samples.empty()) return 0;
  const auto last = static_cast<double>(sorted_samples.size() - 1);
  return static_cast<double>(sorted_samples[static_cast<std::size_t>(last * fraction)]);
}

}  // namespace bench
