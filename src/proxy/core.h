#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "io/blocks.h"
#include "io/io.h"
#include "io/timers.h"
#include "log/log.h"
#include "mail/client_hello.h"
#include "poise/session_record.h"
#include "proxy/pipes.h"
#include "proxy/relay.h"
#include "proxy/snapshot.h"

namespace poise::proxy {

inline constexpr std::array kDirections{io::Direction::to_backend, io::Direction::to_client};

/// One tick of the timers: deadlines are coarse, activity costs one store.
inline constexpr std::chrono::milliseconds kTick{10};
using Tick = io::TimerWheel::Tick;

constexpr Tick ticks(std::chrono::milliseconds time) {
  const auto count = (time + kTick - std::chrono::milliseconds(1)) / kTick;
  return count >= INT32_MAX ? INT32_MAX : static_cast<Tick>(count);
}

/// The bounds and habits of a worker; the tests make them small.
struct Tuning {
  std::uint32_t held_bytes_max = 65536;  ///< a direction that holds as much stops receiving
  std::uint32_t blocks_max = 16384;      ///< of 16 KiB, for all directions of a worker
  std::uint32_t pipes_max = 32;          ///< lent to directions in bulk
  std::uint32_t bulk_after = 4;          ///< full receives in a row that turn a direction to splice
  std::uint32_t bulk_small_max = 16;     ///< small splices in a row that turn it back
  std::chrono::milliseconds park_after{5000};  ///< of silence: receives become polls
  std::chrono::milliseconds reset_patience{
      5000};  ///< for what came before a reset to be acknowledged
  std::chrono::milliseconds refusal_patience{5000};  ///< for a refused client to close its side
  std::uint32_t spare_descriptors = 4;               ///< to accept and refuse when all are taken
  std::chrono::milliseconds queue_look{100};         ///< waiting for a backend's connect_rate
  std::chrono::milliseconds header_patience{5000};   ///< for an inbound PROXY header
  std::chrono::milliseconds optional_header_patience{
      2000};  ///< where it may be absent and the client waits for the greeting
};

/// What a worker warns of: a few lines of a kind, then how many more there were.
enum class Warning : std::uint8_t {
  descriptors,
  slots,
  blocks,
  backend_sockets,
  paused,        ///< a backend's brake came on
  proxy_header,  ///< a client's PROXY header was refused
  limits,        ///< a limit was reached
};

/// Failed tries that the log line names.
inline constexpr std::size_t kTryRecords = 4;

/// What trying another backend needs, kept apart because most sessions need one try and no record
/// of it.
struct Tries {
  static constexpr std::size_t kMax = 16;
  std::uint8_t count = 0;    ///< that failed
  bool all_answered = true;  ///< each of them in the protocol
  TryOutcome last_outcome = TryOutcome::ok;
  std::array<BackendId, kMax> tried{};
  std::array<TryRecord, kTryRecords> records{};

  // On TLS ports: what the client said first, to be said again to the next backend.
  mail::ClientHello hello;
  Held kept;

  [[nodiscard]] std::span<const BackendId> failed() const { return std::span(tried).first(count); }

  // While queued: where, and which turn it is.
  balance::Waiters* waiters = nullptr;
  balance::WaiterTicket ticket;
};

/// A place for somebody who waits: reserved at `backend`, with its turn. Travels to the waiter's
/// worker; if the session is gone by then it is given back.
struct Place {
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
  ServiceId service;
  BackendId backend;
  bool turn = true;  ///< a turn at its brakes goes with it
};

/// A try that failed before the greeting and that the client cannot have caused.
struct Trouble {
  BackendId backend;
  TryOutcome outcome = TryOutcome::ok;
  std::uint32_t prefix_hash = 0;  ///< of the client's source prefix
};

/// Where a worker reports to; each may be empty. `trouble` is called in the worker's thread and
/// must not wait; at most kTroublesPerTick a tick.
struct Reports {
  log::SessionSink* sessions = nullptr;
  log::Log* events = nullptr;
  std::function<void(const Trouble&)> trouble;
  std::function<void(std::uint32_t worker, const Place&)> hand_over;  ///< to any worker, this too
  std::uint32_t worker = 0;                                           ///< this one's number
};
inline constexpr unsigned kTroublesPerTick = 16;

/// How old BackendState::good_greeting_ms may be: storing it for each session would have all
/// workers write to one cache line.
inline constexpr std::int64_t kGreetingNewsMs = 100;

inline std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Small records lent out by index.
template <class T>
class Lender {
 public:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  std::uint32_t take() {
    if (free_.empty()) {
      items_.emplace_back();
      return static_cast<std::uint32_t>(items_.size() - 1);
    }
    const std::uint32_t index = free_.back();
    free_.pop_back();
    items_[index] = T{};
    return index;
  }
  void give_back(std::uint32_t index) { free_.push_back(index); }
  T& operator[](std::uint32_t index) { return items_[index]; }
  [[nodiscard]] std::size_t lent() const { return items_.size() - free_.size(); }

 private:
  std::vector<T> items_;
  std::vector<std::uint32_t> free_;
};

/// A direction with bytes received in this batch.
struct Unflushed {
  std::uint32_t slot = 0;
  std::uint16_t generation = 0;
  io::Direction direction = io::Direction::to_backend;
};

/// What a worker offers its sessions: its ring, its memory, its clock, and the world as of this
/// step. One thread.
struct Core {
  Core(io::Io& io_in, Registries& registries_in, Counters& counters_in, const Tuning& tuning_in,
       std::uint32_t slots)
      : io(io_in),
        registries(registries_in),
        counters(counters_in),
        tuning(tuning_in),
        blocks(tuning_in.blocks_max),
        wheel(slots),
        pipes(io_in, tuning_in.pipes_max),
        chain(io_in.buffer_count()) {}

  io::Io& io;
  Registries& registries;
  Counters& counters;
  const Tuning tuning;
  io::BlockPool blocks;
  io::TimerWheel wheel;
  PipePool pipes;
  Lender<Tries> tries;
  const Snapshot* snapshot = nullptr;
  Reports reports;
  Tick trouble_tick = 0;
  unsigned troubles = 0;  ///< reported in this tick

  io::Time now{};                             ///< read once a batch
  Tick tick = 0;                              ///< now in ticks since the worker's start
  std::uint64_t random = 0x9e3779b97f4a7c15;  ///< xorshift state
  std::uint64_t next_session_id = 0;

  /// Counts the hand-overs of queued operations to the kernel. What send_quietly() queued in one
  /// epoch has been sent, and any shortage handled, when the next begins.
  std::uint32_t epoch = 1;
  std::vector<Unflushed> unflushed;  ///< flushed at the end of the batch
  std::vector<std::uint16_t>
      in_kernel;  ///< receive buffers that quiet sends of this epoch read from
  std::vector<std::uint32_t> to_release;  ///< finished sessions that wait for the epoch to end

  /// Receive buffers delivered in this batch, chained by direction.
  struct Link {
    std::int32_t length = 0;
    std::uint16_t next = io::kNoBuffer;
  };
  std::vector<Link> chain;

  std::function<void(std::uint32_t slot)>
      free_slot;  ///< the session is over; the worker takes its slot back

  std::uint64_t next_random() {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return random;
  }
  template <class... Args>
  void warn(Warning kind, fmt::format_string<Args...> format, Args&&... args) {
    if (reports.events != nullptr)
      reports.events->limited(static_cast<std::size_t>(kind), config::LogLevel::warning, format,
                              std::forward<Args>(args)...);
  }
  void report(const Trouble& trouble) {
    if (!reports.trouble) return;
    if (trouble_tick != tick) troubles = 0;
    trouble_tick = tick;
    if (++troubles <= kTroublesPerTick) reports.trouble(trouble);
  }
  [[nodiscard]] std::int64_t now_ms() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  }
  [[nodiscard]] const Service& service(ServiceId id) const { return snapshot->services[id.value]; }
};

}  // namespace poise::proxy
