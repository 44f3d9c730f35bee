#include "pair/guard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "net/replace_file.h"

namespace poise::pair {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

const char* verdict(bool serves) {
  return serves ? "0\n" : "1\n";
}

/// One byte in place: no moment at which a reader finds an empty file. keepalived looks when a
/// writer has closed the file.
void say(const std::string& path, bool serves) {
  const net::Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file) static_cast<void>(!::pwrite(file.get(), verdict(serves), 2, 0));
}

/// Runs in the other process until we are gone.
void watch(int pipe, const std::string& path) {
  bool said = false;
  bool late = false;
  for (;;) {
    pollfd ready{pipe, POLLIN, 0};
    const auto begin = Clock::now();
    const int count = ::poll(&ready, 1, static_cast<int>(Guard::kSilence.count()));
    if (count < 0 && errno == EINTR) continue;
    bool serves = false;
    if (count > 0) {
      std::array<char, 64> beats;
      const ssize_t got = ::recv(pipe, beats.data(), beats.size(), 0);
      if (got <= 0) return say(path, false);
      serves = beats[static_cast<std::size_t>(got) - 1] == '0';
      late = false;
    } else if (!late && Clock::now() - begin > Guard::kSilence + Guard::kBeat) {
      // It is we who were late: the whole machine stood still. A beat may be on its way.
      late = true;
      continue;
    }
    if (serves != said) say(path, said = serves);
  }
}

}  // namespace

Result<Guard> Guard::start(const std::string& track_file) {
  // In place of whatever is there: keepalived may have made it, as root.
  if (auto made = net::replace_file(track_file, verdict(false), {.mode = 0644}); !made)
    return made.error();
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return Error{"guard", std::strerror(errno)};
  net::Fd ours(ends[0]), its(ends[1]);
  ::fcntl(ours.get(), F_SETFL, O_NONBLOCK);
  const pid_t pid = ::fork();
  if (pid < 0) return Error{"guard", std::strerror(errno)};
  if (pid > 0) return Guard(std::move(ours));
  ours.reset();
  ::prctl(PR_SET_NAME, "poised-guard");
  // Signals meant for us are ours: it ends when we have ended.
  sigset_t all;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  // Nobody's pipe stays open because of it.
  const int null = ::open("/dev/null", O_RDWR);
  for (const int standard : {0, 1, 2}) ::dup2(null, standard);
  const int last = std::max(its.get(), 3);
  for (int fd = 3; fd < 256; ++fd)
    if (fd != last) ::close(fd);
  watch(its.get(), track_file);
  ::_exit(0);
}

void Guard::beat(bool serves) const {
  [[maybe_unused]] const ssize_t sent =
      ::send(pipe_.get(), serves ? "0" : "1", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace poise::pair
