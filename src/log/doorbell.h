#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace poise::log {

/// How producers wake the log thread, as seldom as can be: it says how deep it sleeps, and who
/// wakes it takes that word back, so that one of many producers makes the system call.
///
/// No wake-up is lost: a producer publishes its record and then reads the state; the log thread
/// writes the state and then looks for records once more. All four are sequentially consistent, so
/// one of the two sees the other.
class Doorbell {
 public:
  enum class Sleep : std::uint8_t {
    awake,    ///< will look by itself; nobody needs to ring
    napping,  ///< back within the linger time; ring when it can't wait that long
    asleep,   ///< ring for anything
  };

  Doorbell() = default;
  Doorbell(const Doorbell&) = delete;
  Doorbell& operator=(const Doorbell&) = delete;
  ~Doorbell() {
    if (fd_ >= 0) ::close(fd_);
  }

  /// False, with errno set, when the process is out of descriptors.
  [[nodiscard]] bool open() {
    fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd_ >= 0;
  }

  /// Readable after a ring, until answer().
  [[nodiscard]] int fd() const noexcept { return fd_; }

  // --- any thread

  /// Something was published; `urgent` when it should not wait for the end of a nap.
  void ring(bool urgent) noexcept {
    const Sleep sleep = sleep_.load(std::memory_order_seq_cst);
    if (sleep == Sleep::awake || (sleep == Sleep::napping && !urgent)) return;
    if (sleep_.exchange(Sleep::awake, std::memory_order_seq_cst) != Sleep::awake) wake();
  }

  /// Whatever the log thread does, also when it waits for the output. For stop().
  void wake() noexcept {
    const std::uint64_t one = 1;
    // Fails only when the counter would overflow, and then the thread has been woken already.
    if (fd_ >= 0) static_cast<void>(!::write(fd_, &one, sizeof one));
  }

  // --- log thread

  void fall(Sleep sleep) noexcept { sleep_.store(sleep, std::memory_order_seq_cst); }
  void answer() noexcept {
    std::uint64_t rings = 0;
    static_cast<void>(!::read(fd_, &rings, sizeof rings));
  }

 private:
  int fd_ = -1;
  alignas(64) std::atomic<Sleep> sleep_{Sleep::awake};
};

}  // namespace poise::log
