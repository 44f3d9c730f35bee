#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "io/io.h"

namespace poise::sim {

/// The code under test broke a rule of the seam or of a session. The message says which.
struct Violation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What a simulated host at the far end of a connection will do, in order; what it receives it
/// reads meanwhile.
struct Step {
  enum class Kind : std::uint8_t {
    say,          ///< the script's opening, in pieces
    send,         ///< `amount` bytes of its stream
    pause,        ///< `amount` milliseconds
    await_bytes,  ///< until it has received so many in all, or the end
    await_end,    ///< until the other side has finished
    await_acked,  ///< until all it sent has arrived
    finish,       ///< FIN; goes on reading
    close,        ///< FIN, reads no more; data that still comes is answered with RST
    reset,        ///< RST
  };
  Kind kind = Kind::send;
  std::uint32_t amount = 0;
};

struct Script {
  std::vector<Step> steps;
  std::uint32_t reads_max = 64;  ///< bytes a read; 0: never reads
  std::uint8_t label = 0;        ///< the test's own
  std::string opening;           ///< "#####" becomes the connection's number
};

enum class ConnectAnswer : std::uint8_t { accept, refuse, never, unreachable };

/// One end of a simulated connection, as its owner sees it.
struct End {
  std::vector<std::uint8_t> received;  ///< arrived, in order
  std::size_t read = 0;                ///< of it, taken by the owner
  std::vector<std::uint8_t> sent;
  std::size_t delivered = 0;  ///< of it, arrived at the other end, which is when it is acknowledged
  bool fin_sent = false, fin_delivered = false, fin_received = false;
  bool rst_sent = false, rst_delivered = false, rst_received = false;
  bool error_pending =
      false;  ///< a reset not yet reported: by recv after the data, or by send at once
  bool closed = false;
  bool reset_on_close = false;
};

struct Connection {
  End proxy, remote;
  int fd = -1;
  bool client = false;      ///< else a backend's
  bool connecting = false;  ///< the proxy's connect() is not answered yet
  ConnectAnswer answer = ConnectAnswer::accept;
  std::size_t window = 256;  ///< bytes that fit between the ends, each way
  Script script;
  std::size_t step = 0;
  bool finished_script = false;
  io::Time wake{};
  std::uint32_t number = 0;  ///< of its stream
};

/// The kernel and the rest of the world, simulated: any order of completions, short reads and
/// writes, resets, failed connects, running out of buffers, descriptors and pipes; virtual time.
/// What the proxy may rely on is what io::Io promises and no more; breaking a rule of the seam
/// throws Violation.
class SimIo final : public io::Io {
 public:
  struct Settings {
    std::uint32_t buffers = 8;
    std::uint32_t buffer_bytes = 32;
    std::uint32_t pipe_bytes = 128;
    std::uint32_t sockets_max = 64;
    bool fail_pipes = false;
    bool end_multishots = true;  ///< now and then, as a kernel may
  };

  SimIo(std::uint64_t seed, const Settings& settings);

  /// A client will connect to `listener` after `delay`.
  void add_client(int listener, Script script, std::size_t window, io::Time delay);
  /// What the next connection to this backend port finds; asked once per connect.
  std::function<void(const Address& to, Connection& connection)> on_connect;

  [[nodiscard]] const std::deque<Connection>& connections() const { return connections_; }
  [[nodiscard]] std::uint32_t random(std::uint32_t below) {
    return static_cast<std::uint32_t>(random_() % below);
  }
  [[nodiscard]] std::size_t buffers_out() const;
  [[nodiscard]] std::size_t descriptors_open() const { return by_fd_.size(); }
  [[nodiscard]] std::size_t pipes_open() const { return pipes_.size(); }
  /// Nothing will ever happen again unless the proxy acts.
  [[nodiscard]] bool world_at_rest();
  [[nodiscard]] std::size_t accepted() const { return accepted_; }

  /// Of a connection's stream, which follows its opening; the first two bytes are its number.
  static std::uint8_t stream_byte(std::uint32_t number, std::size_t offset) {
    if (offset < 2) return static_cast<std::uint8_t>(number >> (8 * offset));
    return static_cast<std::uint8_t>((number * 131u + offset * 7u + (offset >> 3) * 13u) & 0xff);
  }

  // io::Io
  void accept(int listener, io::Tag tag) override;
  void connect(int fd, const Address& to, io::Tag tag) override;
  void recv(int fd, io::Tag tag) override;
  void send(int fd, std::span<const std::byte> bytes, io::Tag tag) override;
  void send_quietly(int fd, std::span<const std::byte> bytes, io::Tag tag) override;
  void poll_in(int fd, io::Tag tag) override;
  void poll_out(int fd, io::Tag tag) override;
  void cancel(io::Tag tag) override;
  void close(int fd) override;
  int open_socket(int family, const std::string& congestion) override;
  int bind_source(int fd, const Address& from, bool transparent) override;
  int accept_now(int listener) override;
  std::ptrdiff_t send_now(int fd, std::span<const std::span<const std::byte>> parts,
                          bool last) override;
  void shutdown_write(int fd) override;
  void reset_on_close(int fd) override;
  std::uint32_t unacknowledged_bytes(int fd) override;
  void set_keepalive(int fd, std::chrono::milliseconds idle,
                     std::chrono::milliseconds user_timeout) override;
  Address local_address(int fd) override;
  Address peer_address(int fd) override;
  bool open_pipe(io::Pipe& pipe) override;
  void close_pipe(const io::Pipe& pipe) override;
  std::ptrdiff_t splice(int from, int to, std::size_t bytes_max) override;
  [[nodiscard]] std::span<const std::byte> buffer(std::uint16_t id,
                                                  std::int32_t length) const override;
  void release_buffer(std::uint16_t id) override;
  [[nodiscard]] std::size_t buffer_bytes() const override { return settings_.buffer_bytes; }
  [[nodiscard]] std::size_t buffer_count() const override { return settings_.buffers; }
  [[nodiscard]] io::Time now() override { return now_; }
  std::span<const io::Completion> submit() override;
  std::span<const io::Completion> wait(io::Time until) override;
  void wake() override { woken_ = true; }

 private:
  struct Request {
    io::Op op = io::Op::none;
    io::Tag tag;
    int fd = -1;
    std::span<const std::byte> bytes;
    Address to;
    bool cancelled = false;
    bool cancels = false;  // this request is a cancel() of `tag`
  };
  struct Arrival {
    int listener;
    Script script;
    std::size_t window;
    io::Time at;
  };

  Connection& at(int fd);
  void queue(io::Op op, int fd, io::Tag tag, std::span<const std::byte> bytes = {},
             const Address& to = {});
  void begin_queued();
  void begin(const Request& request);
  void complete(const Request& request, std::int32_t res, bool more = false,
                std::uint16_t buffer = io::kNoBuffer);
  std::size_t room(const End& from, const End& to, const Connection& connection) const;
  std::ptrdiff_t take(Connection& connection, std::span<const std::byte> bytes,
                      std::size_t at_most);
  std::ptrdiff_t readable(const Connection& connection) const;
  void close_proxy_end(Connection& connection);

  bool step_world();
  bool deliver(Connection& connection, End& from, End& to);
  bool step_remote(Connection& connection);
  bool step_request(std::size_t index);
  bool step_arrival();
  bool can_complete(const Request& request);
  io::Time next_event() const;

  Settings settings_;
  std::mt19937_64 random_;
  io::Time now_{std::chrono::seconds(1)};
  std::deque<Connection> connections_;
  std::map<int, Connection*> by_fd_;
  std::map<int, std::vector<std::uint8_t>> pipes_;  // by read end; the write end is the next number
  std::vector<Arrival> arrivals_;
  std::vector<Request> queued_, armed_;
  std::vector<io::Completion> ready_, batch_;
  std::vector<std::vector<std::byte>> buffers_;
  std::vector<bool> buffer_out_;
  int next_fd_ = 100;
  std::uint32_t next_number_ = 1;
  std::size_t accepted_ = 0;
  bool woken_ = false;
};

}  // namespace poise::sim
