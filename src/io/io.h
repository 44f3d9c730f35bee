#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "poise/address.h"

/// The one seam through which the data path asks anything of the kernel. Uring implements it for
/// real, SimIo in the tests; a Session cannot tell which one it runs on. One Io belongs to one
/// worker and one thread; only wake() may be called from others.
namespace poise::io {

/// Time since an arbitrary start, in nanoseconds; never goes back.
using Time = std::chrono::nanoseconds;

enum class Op : std::uint8_t {
  none,
  accept,    ///< multishot; res is the new fd
  connect,   ///< res 0 or -errno
  recv,      ///< multishot; res is the number of bytes in `buffer`, 0 at EOF, or -errno
  send,      ///< res is the number of bytes taken (perhaps fewer than asked), or -errno
  report,    ///< what a send_quietly() fell short of: res is what was taken, or -errno (-EAGAIN:
             ///< nothing)
  poll_in,   ///< readable, at EOF, or broken
  poll_out,  ///< writable or broken
  wake,      ///< somebody called wake()
};

/// Named by where bytes go. For recv and poll_in the direction is that of the bytes to be received.
enum class Direction : std::uint8_t { to_backend, to_client };

/// What a completion is for: eight bytes that go through the kernel and back, and no pointer, so
/// that a completion that outlives its session is a failed CHECK and not a use after free.
struct Tag {
  std::uint32_t slot = 0;
  std::uint16_t generation = 0;
  Op op = Op::none;
  Direction direction = Direction::to_backend;

  bool operator==(const Tag&) const = default;
};
static_assert(sizeof(Tag) == 8);

inline constexpr std::uint16_t kNoBuffer = 0xffff;

struct Completion {
  Tag tag;
  std::int32_t res = 0;
  std::uint16_t buffer = kNoBuffer;  ///< a shared receive buffer, ours until release_buffer()
  bool more = false;                 ///< a multishot operation that is still armed
};

struct Pipe {
  int read_end = -1;
  int write_end = -1;
  std::uint32_t capacity_bytes = 0;
};

class Io {
 public:
  Io() = default;
  Io(const Io&) = delete;
  Io& operator=(const Io&) = delete;
  virtual ~Io() = default;

  // Operations are queued, and begin at the next submit() or wait(). Each ends in exactly one
  // completion without `more`, send_quietly() excepted. A tag must not be armed twice at a time.

  /// Accepts until cancelled or failed. Accepted sockets are non-blocking and close-on-exec.
  virtual void accept(int listener, Tag tag) = 0;
  virtual void connect(int fd, const Address& to, Tag tag) = 0;
  /// Receives into shared buffers until EOF, an error (-ENOBUFS: the buffers ran out for now; arm
  /// it again) or cancel().
  virtual void recv(int fd, Tag tag) = 0;
  /// Sends what the socket takes, waiting for room for at least one byte. `bytes` must stay until
  /// the completion.
  virtual void send(int fd, std::span<const std::byte> bytes, Tag tag) = 0;
  /// Sends what the socket takes without waiting, at the next submit() or wait(). Only a shortage
  /// is reported, among the completions which that call returns; `tag.op` is Op::report. `bytes`
  /// must stay until then.
  virtual void send_quietly(int fd, std::span<const std::byte> bytes, Tag tag) = 0;
  virtual void poll_in(int fd, Tag tag) = 0;
  virtual void poll_out(int fd, Tag tag) = 0;
  /// Asks the operation with this tag to end soon, with what it has or -ECANCELED. No completion of
  /// its own.
  virtual void cancel(Tag tag) = 0;
  /// Closes `fd` after what was queued before. Nothing may be armed on it: the kernel would end a
  /// late operation on the number's next owner, and an armed receive would keep the connection open
  /// without a FIN.
  virtual void close(int fd) = 0;

  // Calls that happen at once.

  /// A non-blocking socket towards a backend. -errno when there is none.
  virtual int open_socket(int family, const std::string& congestion) = 0;
  /// Makes `from` the near end of a connection to come; port 0: any, chosen at connect() so that
  /// only the pair of addresses limits how many there can be. `transparent`: an address that is not
  /// ours (IP_TRANSPARENT). 0 or -errno.
  virtual int bind_source(int fd, const Address& from, bool transparent) = 0;
  /// One more queued connection of a listener that is about to be closed; -EAGAIN when there is
  /// none.
  virtual int accept_now(int listener) = 0;
  /// Sends without waiting, at once: only where nothing is queued by send or send_quietly for `fd`.
  /// With `last` the FIN follows in the same segment where everything was taken. Bytes taken, or
  /// -errno.
  virtual std::ptrdiff_t send_now(int fd, std::span<const std::span<const std::byte>> parts,
                                  bool last) = 0;
  virtual void shutdown_write(int fd) = 0;
  /// close() will send RST instead of FIN.
  virtual void reset_on_close(int fd) = 0;
  /// Bytes sent and not yet acknowledged by the peer, the FIN counted as one.
  virtual std::uint32_t unacknowledged_bytes(int fd) = 0;
  virtual void set_keepalive(int fd, std::chrono::milliseconds idle,
                             std::chrono::milliseconds user_timeout) = 0;
  virtual Address local_address(int fd) = 0;
  virtual Address peer_address(int fd) = 0;
  /// A pipe for splice_*, or false when there is none to be had.
  virtual bool open_pipe(Pipe& pipe) = 0;
  virtual void close_pipe(const Pipe& pipe) = 0;
  /// Moves up to `bytes_max` from a socket into a pipe, or from a pipe into a socket, without
  /// waiting and without copying. Bytes moved, 0 at EOF, -EAGAIN, or -errno.
  virtual std::ptrdiff_t splice(int from, int to, std::size_t bytes_max) = 0;

  // Shared receive buffers.

  [[nodiscard]] virtual std::span<const std::byte> buffer(std::uint16_t id,
                                                          std::int32_t length) const = 0;
  virtual void release_buffer(std::uint16_t id) = 0;
  [[nodiscard]] virtual std::size_t buffer_bytes() const = 0;  ///< of one
  [[nodiscard]] virtual std::size_t buffer_count() const = 0;

  // The loop.

  [[nodiscard]] virtual Time now() = 0;
  /// Begins what is queued and returns what has ended by then, without waiting.
  virtual std::span<const Completion> submit() = 0;
  /// Begins what is queued, waits until something ends or `until`, and returns it. Time::max(): no
  /// limit.
  virtual std::span<const Completion> wait(Time until) = 0;
  /// Makes wait() return with an Op::wake completion. From any thread.
  virtual void wake() = 0;
};

}  // namespace poise::io
