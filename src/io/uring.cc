#include "io/uring.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <liburing.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <vector>

#include "net/fd.h"
#include "net/socket.h"
#include "poise/check.h"

namespace poise::io {
namespace {

constexpr int kBufferGroup = 0;
constexpr std::uint32_t kPipeBytes = 1 << 20;  // 64 KiB pipes cost half as much again per GiB

// Our own operations carry Op::none; the slot says which.
constexpr std::uint32_t kIgnored = 0, kTimer = 1, kWake = 2;

std::uint64_t pack(Tag tag) {
  return std::bit_cast<std::uint64_t>(tag);
}
Tag unpack(std::uint64_t data) {
  return std::bit_cast<Tag>(data);
}
std::uint64_t own(std::uint32_t what) {
  return pack(Tag{.slot = what});
}

Error setup_error(int error) {
  const std::string where = "io_uring";
  switch (error) {
    case EPERM:
      return {where,
              "not permitted here: sysctl kernel.io_uring_disabled must be 0 (or 1 with this "
              "process in "
              "kernel.io_uring_group), and the container's or the unit's seccomp filter must allow "
              "io_uring_setup"};
    case ENOSYS:
      return {where,
              "this kernel has no io_uring, or a seccomp filter hides it (containers: allow "
              "io_uring_setup, "
              "io_uring_enter, io_uring_register)"};
    case ENOMEM: {
      rlimit limit{};
      getrlimit(RLIMIT_MEMLOCK, &limit);
      return {where, fmt::format("no memory for the ring: RLIMIT_MEMLOCK is {} bytes; set "
                                 "LimitMEMLOCK=infinity in the "
                                 "unit, or ulimit -l unlimited",
                                 limit.rlim_cur)};
    }
    case EINVAL:
      return {where, "this kernel's io_uring is too old: poise needs Linux 6.1 or newer"};
    default:
      return {where, std::strerror(error)};
  }
}

class Uring final : public Io {
 public:
  explicit Uring(const UringOptions& options) : options_(options) {}

  ~Uring() override {
    if (ring_ready_) io_uring_queue_exit(&ring_);
    if (buffer_memory_ != nullptr) ::munmap(buffer_memory_, buffer_memory_bytes_);
    if (buffer_ring_ != nullptr) ::munmap(buffer_ring_, buffer_ring_bytes_);
  }

  Result<void> open() {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE |
                   IORING_SETUP_CLAMP;
    params.cq_entries = options_.completion_entries;
    if (const int error = io_uring_queue_init_params(options_.submission_entries, &ring_, &params);
        error < 0)
      return setup_error(-error);
    ring_ready_ = true;
    io_uring_register_ring_fd(&ring_);  // saves a file lookup a call; an old kernel just refuses
    addresses_.resize(ring_.sq.ring_entries);
    completions_.resize(options_.completion_entries);
    if (auto made = make_buffers(); !made) return made;
    wake_ = net::Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!wake_) return Error{"io_uring", fmt::format("eventfd: {}", std::strerror(errno))};
    arm_wake();
    return check_quiet_sends();
  }

  void accept(int listener, Tag tag) override {
    io_uring_sqe* sqe = next();
    io_uring_prep_multishot_accept(sqe, listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, pack(tag));
  }

  void connect(int fd, const Address& to, Tag tag) override {
    if (addresses_used_ == addresses_.size()) begin();
    io_uring_sqe* sqe = next();
    sockaddr_storage& storage =
        addresses_[addresses_used_++];  // the kernel copies it at submission
    const socklen_t length = to.to_sockaddr(storage);
    io_uring_prep_connect(sqe, fd, reinterpret_cast<const sockaddr*>(&storage), length);
    io_uring_sqe_set_data64(sqe, pack(tag));
  }

  void recv(int fd, Tag tag) override {
    io_uring_sqe* sqe = next();
    io_uring_prep_recv_multishot(sqe, fd, nullptr, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = kBufferGroup;
    sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;  // usually there is nothing yet: do not try first
    io_uring_sqe_set_data64(sqe, pack(tag));
  }

  void send(int fd, std::span<const std::byte> bytes, Tag tag) override {
    io_uring_sqe* sqe = next();
    io_uring_prep_send(sqe, fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    io_uring_sqe_set_data64(sqe, pack(tag));
  }

  void send_quietly(int fd, std::span<const std::byte> bytes, Tag tag) override {
    // MSG_DONTWAIT: done, or not, within the submit. MSG_WAITALL: a short send counts as failed,
    // and so is reported in spite of CQE_SKIP_SUCCESS. check_quiet_sends() proves this of the
    // kernel it runs on.
    io_uring_sqe* sqe = next();
    io_uring_prep_send(sqe, fd, bytes.data(), bytes.size(),
                       MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, pack(tag));
  }

  void poll_in(int fd, Tag tag) override { poll(fd, POLLIN | POLLRDHUP, tag); }
  void poll_out(int fd, Tag tag) override { poll(fd, POLLOUT, tag); }

  void cancel(Tag tag) override {
    io_uring_sqe* sqe = next();
    io_uring_prep_cancel64(sqe, pack(tag), 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, own(kIgnored));
  }

  void close(int fd) override {
    io_uring_sqe* sqe = next();
    io_uring_prep_close(sqe, fd);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, own(kIgnored));
  }

  int open_socket(int family, const std::string& congestion) override {
    const int fd = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0) return -errno;
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (congestion != "system")
      ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion.data(),
                   static_cast<socklen_t>(congestion.size()));
    return fd;
  }

  int bind_source(int fd, const Address& from, bool transparent) override {
    const int on = 1;
    if (transparent) {
      const bool v6 = from.is_v6();
      if (::setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT,
                       &on, sizeof on) != 0)
        return -errno;
    }
    ::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    sockaddr_storage storage;
    const socklen_t length = from.to_sockaddr(storage);
    return ::bind(fd, reinterpret_cast<const sockaddr*>(&storage), length) == 0 ? 0 : -errno;
  }

  int accept_now(int listener) override {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return fd < 0 ? -errno : fd;
  }

  std::ptrdiff_t send_now(int fd, std::span<const std::span<const std::byte>> parts,
                          bool last) override {
    std::array<iovec, 64> vectors;
    std::size_t count = 0, total = 0;
    for (const auto& part : parts) {
      if (count == vectors.size()) break;
      vectors[count++] = {const_cast<std::byte*>(part.data()),
                          part.size()};  // NOLINT: sendmsg does not write
      total += part.size();
    }
    msghdr message{};
    message.msg_iov = vectors.data();
    message.msg_iovlen = count;
    const bool whole = count == parts.size();
    const ssize_t sent =
        ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT | (last && whole ? MSG_MORE : 0));
    if (sent < 0) return -errno;
    if (last && whole && static_cast<std::size_t>(sent) == total) ::shutdown(fd, SHUT_WR);
    return sent;
  }

  void shutdown_write(int fd) override { ::shutdown(fd, SHUT_WR); }

  void reset_on_close(int fd) override {
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }

  std::uint32_t unacknowledged_bytes(int fd) override {
    int bytes = 0;
    return ::ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? static_cast<std::uint32_t>(bytes) : 0;
  }

  void set_keepalive(int fd, std::chrono::milliseconds idle,
                     std::chrono::milliseconds user_timeout) override {
    net::set_keepalive(fd, idle, user_timeout);
  }
  Address local_address(int fd) override { return net::local_address(fd); }
  Address peer_address(int fd) override { return net::peer_address(fd); }

  bool open_pipe(Pipe& pipe) override {
    int ends[2];
    if (::pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return false;
    pipe.read_end = ends[0];
    pipe.write_end = ends[1];
    // Beyond pipe-user-pages-soft the kernel refuses; a smaller pipe only costs more calls.
    for (std::uint32_t bytes = kPipeBytes; bytes > 65536; bytes /= 4)
      if (::fcntl(ends[0], F_SETPIPE_SZ, static_cast<int>(bytes)) > 0) break;
    const int capacity = ::fcntl(ends[0], F_GETPIPE_SZ);
    pipe.capacity_bytes = capacity > 0 ? static_cast<std::uint32_t>(capacity) : 4096;
    return true;
  }

  void close_pipe(const Pipe& pipe) override {
    ::close(pipe.read_end);
    ::close(pipe.write_end);
  }

  std::ptrdiff_t splice(int from, int to, std::size_t bytes_max) override {
    const ssize_t moved =
        ::splice(from, nullptr, to, nullptr, bytes_max, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    return moved < 0 ? -errno : moved;
  }

  [[nodiscard]] std::span<const std::byte> buffer(std::uint16_t id,
                                                  std::int32_t length) const override {
    return {buffer_at(id), static_cast<std::size_t>(length)};
  }

  void release_buffer(std::uint16_t id) override {
    io_uring_buf_ring_add(buffer_ring_, buffer_at(id), options_.buffer_bytes, id,
                          static_cast<int>(options_.buffers - 1), 0);
    io_uring_buf_ring_advance(buffer_ring_, 1);
  }

  [[nodiscard]] std::size_t buffer_bytes() const override { return options_.buffer_bytes; }
  [[nodiscard]] std::size_t buffer_count() const override { return options_.buffers; }

  [[nodiscard]] Time now() override {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  }

  std::span<const Completion> submit() override {
    begin();
    return collect();
  }

  std::span<const Completion> wait(Time until) override {
    for (;;) {
      arm_timer(until);
      const int result = io_uring_submit_and_wait(&ring_, 1);
      addresses_used_ = 0;
      // EBUSY: the completion queue must be emptied first. EAGAIN: no memory for a request now.
      // Both pass.
      CHECK(result >= 0 || result == -EINTR || result == -EBUSY || result == -EAGAIN ||
            result == -ETIME);
      timed_out_ = false;
      const auto done = collect();
      if (!done.empty() || timed_out_ || result == -EINTR) return done;
    }
  }

  void wake() override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
  }

 private:
  [[nodiscard]] std::byte* buffer_at(std::uint16_t id) const {
    return buffer_memory_ + id * stride();
  }

  /// From one buffer to the next. Not a power of two: the first lines of all buffers, which small
  /// messages use, would fall into the same few sets of the caches and throw each other out.
  [[nodiscard]] std::size_t stride() const { return options_.buffer_bytes + 192; }

  Result<void> make_buffers() {
    buffer_ring_bytes_ = options_.buffers * sizeof(io_uring_buf);
    void* ring = ::mmap(nullptr, buffer_ring_bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    buffer_memory_bytes_ = options_.buffers * stride();
    void* memory = ::mmap(nullptr, buffer_memory_bytes_, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring != MAP_FAILED) buffer_ring_ = static_cast<io_uring_buf_ring*>(ring);
    if (memory != MAP_FAILED) buffer_memory_ = static_cast<std::byte*>(memory);
    if (buffer_ring_ == nullptr || buffer_memory_ == nullptr)
      return Error{"io_uring", fmt::format("no memory for {} receive buffers of {} bytes",
                                           options_.buffers, options_.buffer_bytes)};
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uint64_t>(buffer_ring_);
    registration.ring_entries = options_.buffers;
    registration.bgid = kBufferGroup;
    if (const int error = io_uring_register_buf_ring(&ring_, &registration, 0); error < 0)
      return setup_error(-error);
    io_uring_buf_ring_init(buffer_ring_);
    for (unsigned id = 0; id < options_.buffers; ++id)
      release_buffer(static_cast<std::uint16_t>(id));
    return {};
  }

  /// Sends more than fits into a socket and sees that the shortage is reported, and a success is
  /// not.
  Result<void> check_quiet_sends() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
      return Error{"io_uring", fmt::format("socketpair: {}", std::strerror(errno))};
    const net::Fd a(ends[0]), b(ends[1]);
    const std::vector<std::byte> much(1 << 22);
    const Tag small{.slot = 1, .op = Op::report}, large{.slot = 2, .op = Op::report};
    send_quietly(a.get(), std::span(much).first(64), small);
    send_quietly(a.get(), much, large);
    const auto reports = submit();
    const bool as_expected =
        reports.size() == 1 && reports[0].tag == large &&
        (reports[0].res == -EAGAIN || (reports[0].res > 0 && reports[0].res < (1 << 22)));
    if (!as_expected)
      return Error{
          "io_uring",
          "this kernel does not report a short send as poise needs it: Linux 6.1 or newer is "
          "required"};
    return {};
  }

  /// The next free submission entry; a full queue is submitted first.
  io_uring_sqe* next() {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    for (int tries = 0; sqe == nullptr; ++tries) {
      CHECK(tries < 1000);
      begin();
      sqe = io_uring_get_sqe(&ring_);
    }
    return sqe;
  }

  void begin() {
    const int result = io_uring_submit(&ring_);
    CHECK(result >= 0 || result == -EINTR || result == -EBUSY || result == -EAGAIN);
    if (io_uring_sq_ready(&ring_) == 0) addresses_used_ = 0;
  }

  void poll(int fd, unsigned events, Tag tag) {
    io_uring_sqe* sqe = next();
    io_uring_prep_poll_add(sqe, fd, events);
    io_uring_sqe_set_data64(sqe, pack(tag));
  }

  void arm_wake() {
    io_uring_sqe* sqe = next();
    io_uring_prep_poll_add(sqe, wake_.get(), POLLIN);
    io_uring_sqe_set_data64(sqe, own(kWake));
  }

  /// One timeout is armed at a time, and only ever moved forward: deadlines mostly lie seconds
  /// away, so a wait that ends sooner costs nothing here.
  void arm_timer(Time until) {
    if (until >= timer_until_) return;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(until);
    timer_spec_.tv_sec = seconds.count();
    timer_spec_.tv_nsec = (until - seconds).count();
    io_uring_sqe* sqe = next();
    if (timer_until_ == Time::max()) {
      io_uring_prep_timeout(sqe, &timer_spec_, 0, IORING_TIMEOUT_ABS);
      io_uring_sqe_set_data64(sqe, own(kTimer));
    } else {
      io_uring_prep_timeout_update(sqe, &timer_spec_, own(kTimer), IORING_TIMEOUT_ABS);
      io_uring_sqe_set_data64(sqe, own(kIgnored));
    }
    timer_until_ = until;
  }

  std::span<const Completion> collect() {
    std::size_t count = 0;
    unsigned head = 0, seen = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      if (count == completions_.size()) break;
      ++seen;
      const Tag tag = unpack(cqe->user_data);
      if (tag.op == Op::none) {
        if (tag.slot == kTimer) {
          timer_until_ = Time::max();
          timed_out_ = true;
        } else if (tag.slot == kWake) {
          completions_[count++] = Completion{.tag = Tag{.op = Op::wake}};
        }
        continue;
      }
      Completion& done = completions_[count++];
      done.tag = tag;
      done.res = cqe->res;
      done.more = (cqe->flags & IORING_CQE_F_MORE) != 0;
      done.buffer = (cqe->flags & IORING_CQE_F_BUFFER) != 0
                        ? static_cast<std::uint16_t>(cqe->flags >> IORING_CQE_BUFFER_SHIFT)
                        : kNoBuffer;
    }
    io_uring_cq_advance(&ring_, seen);
    for (std::size_t i = 0; i < count; ++i) {
      if (completions_[i].tag.op != Op::wake) continue;
      std::uint64_t times = 0;
      [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &times, sizeof times);
      arm_wake();
    }
    return {completions_.data(), count};
  }

  UringOptions options_;
  io_uring ring_{};
  bool ring_ready_ = false;
  io_uring_buf_ring* buffer_ring_ = nullptr;
  std::size_t buffer_ring_bytes_ = 0;
  std::byte* buffer_memory_ = nullptr;
  std::size_t buffer_memory_bytes_ = 0;
  std::vector<sockaddr_storage> addresses_;  // of connects not yet submitted
  std::size_t addresses_used_ = 0;
  std::vector<Completion> completions_;
  net::Fd wake_;
  __kernel_timespec timer_spec_{};
  Time timer_until_ = Time::max();
  bool timed_out_ = false;
};

}  // namespace

Result<std::unique_ptr<Io>> make_uring(const UringOptions& options) {
  auto uring = std::make_unique<Uring>(options);
  if (auto opened = uring->open(); !opened) return opened.error();
  return std::unique_ptr<Io>(std::move(uring));
}

}  // namespace poise::io
