#include "loadgen/loop/stop_signal.h"

#include <sys/signalfd.h>

#include <csignal>

#include "poise/check.h"

namespace poise::loadgen {
namespace {

sigset_t stop_set() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

StopSignal::StopSignal() {
  const sigset_t set = stop_set();
  // A shell's background job starts with SIGINT ignored, and an ignored signal never reaches a
  // signalfd.
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  CHECK(sigprocmask(SIG_BLOCK, &set, nullptr) == 0);
  fd_ = net::Fd(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  CHECK(fd_);
}

StopSignal::~StopSignal() {
  const sigset_t set = stop_set();
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

void StopSignal::take() {
  signalfd_siginfo info;
  while (read(fd_.get(), &info, sizeof info) > 0) {
  }
  const sigset_t set = stop_set();
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace poise::loadgen
