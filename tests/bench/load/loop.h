#pragma once

#include <netinet/in.h>
#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

/// What all load shapes share: one thread, one level-triggered epoll, non-blocking IPv4 sockets,
/// and the conversation with the harness. Everything runs on the thread that made the Loop.
namespace bench {

using Clock = std::chrono::steady_clock;

/// Ends the program with a JSON line {"error": ...} on stdout and exit status 1. `what` says which
/// step failed; errno is added by fail_errno.
[[noreturn]] void fail(const std::string& what);
[[noreturn]] void fail_errno(const std::string& what);

/// Something that owns a socket in the loop. The loop never owns a Source, and each socket yields
/// at most one event a turn, so a Source may close its own socket and reuse itself in on_event.
class Source {
 public:
  virtual void on_event(std::uint32_t events) = 0;

 protected:
  ~Source() = default;
};

class Loop {
 public:
  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void add(int fd, std::uint32_t events, Source* source);
  void change(int fd, std::uint32_t events, Source* source);

  /// One turn: waits at most `timeout_ms`, dispatches what is ready.
  void turn(int timeout_ms);

  /// Turns until `done()`; fails with `what` when `limit` has passed first.
  template <typename Done>
  void run_until(Done done, std::chrono::seconds limit, const std::string& what) {
    const Clock::time_point end = Clock::now() + limit;
    for (unsigned turns = 0; !done(); ++turns) {
      turn(100);
      if (turns % 64 == 0 && Clock::now() > end) fail("time limit passed: " + what);
    }
  }

  /// Keeps serving for a while, so that the other side's last closes are over before CPU is read.
  void settle(std::chrono::milliseconds time);

  /// Tells the harness that a stage is reached (a line on stdout) and serves on until it answers (a
  /// line on stdin): between the two it reads the CPU accounting. Without a harness (`by_hand`)
  /// goes on at once.
  void mark(const char* stage);

  void set_by_hand(bool by_hand) { by_hand_ = by_hand; }

 private:
  static constexpr int kEventsMax = 512;

  int epoll_;
  bool by_hand_ = false;
};

/// "127.0.0.1:2500,127.0.0.2:2500"; fails on anything else.
std::vector<sockaddr_in> parse_addresses(const std::string& list);

/// A non-blocking listener; SO_REUSEADDR, backlog as large as the kernel allows.
int listen_on(const sockaddr_in& address);

/// A non-blocking connect; -1 when the kernel refuses at once. Completion shows as readability, for
/// every server here speaks first or is spoken to by somebody who waits for EPOLLOUT.
int connect_to(const sockaddr_in& address);

/// CPU time of this process, user and system, in seconds.
double own_cpu_seconds();

/// How fast this machine moves small messages over loopback TCP right now: microseconds for one
/// 64-byte round trip inside this thread. The harness scales costs by it (the machine has slow
/// phases).
double speed_probe_us(std::chrono::milliseconds time);

/// Percentiles of a sample set, which is sorted in place.
double percentile(std::vector<float>& sorted_samples, double fraction);

}  // namespace bench
