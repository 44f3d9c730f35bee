#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "poise/ids.h"

/// The clients of a pool that wait for a place, in the order they came, over all workers. Lives in
/// a registry, so it survives reloads. Pure: who is woken, and how, is the caller's business.
namespace poise::balance {

/// Names one waiting, never another one.
struct WaiterTicket {
  std::uint64_t value = 0;
  explicit operator bool() const { return value != 0; }
};

struct Waiter {
  std::uint32_t worker = 0;  ///< whose session it is,
  std::uint32_t slot = 0;    ///< where it sits there,
  std::uint32_t generation = 0;
  std::chrono::nanoseconds since{};
  std::uint64_t avoids = 0;  ///< backends it has tried, a bit each: see avoid()
};

/// How a place and a client find each other:
///
/// - A new session asks anyone(); if somebody waits it joins the end, and does not pick. Else it
///   picks; when the pool is full it joins.
/// - Who has joined calls serve(): a place may have been given back between its pick and its
///   joining. What serve() finds may go to somebody else.
/// - Who gives a place back does so, then calls serve(). The counts here and those of places are
///   sequentially consistent, so of two that do this at once at least one sees the other: no place
///   stays free beside a client that can use it.
/// - Who was taken is woken with the place reserved for it. If by then the session is gone or waits
///   no more (its generation is another one, cancel() said false), the place is given back as
///   above.
///
/// Any thread; the mutex is touched only when somebody waits or is about to.
class Waiters {
 public:
  using Time = std::chrono::nanoseconds;

  /// The bit of `backend` in Waiter::avoids. Two backends may share one (in pools above 64): then a
  /// place at the other is not offered either, and the waiter gets a later one.
  [[nodiscard]] static std::uint64_t avoid(BackendId backend) {
    return std::uint64_t{1} << (backend.value % 64);
  }

  /// Joins the end. Empty ticket: `length_max` wait already.
  [[nodiscard]] WaiterTicket enqueue(const Waiter& waiter, std::uint32_t length_max);

  /// Leaves the queue: it gave up, or ran out of time. False: it was taken before, a place is on
  /// its way to it.
  bool cancel(WaiterTicket ticket);

  /// Takes the first who can use a place at this backend out of the queue.
  [[nodiscard]] std::optional<Waiter> take_next(BackendId place);

  /// Brings free places and waiting clients together until one of both is missing, or nobody left
  /// can use what is free. `pick()` reserves a place and returns its std::optional<BackendId>;
  /// `hand_over(waiter, backend)` wakes its worker; `release(backend)` gives a place back.
  template <class Pick, class HandOver, class Release>
  void serve(Pick&& pick, HandOver&& hand_over, Release&& release) {
    while (anyone()) {
      const std::uint32_t joined = joined_.load();
      const std::optional<BackendId> place = pick();
      if (!place) return;
      if (const std::optional<Waiter> waiter = take_next(*place)) {
        hand_over(*waiter, *place);
        continue;
      }
      release(*place);
      if (joined_.load() == joined) return;  // else a newcomer may have missed it in our hands
    }
  }

  /// No mutex.
  [[nodiscard]] bool anyone() const { return length() != 0; }
  [[nodiscard]] std::uint32_t length() const { return length_.load(); }

  /// How long the first has waited; 0 when nobody does.
  [[nodiscard]] Time longest_wait(Time now) const;

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  struct Node {
    Waiter waiter;
    std::uint32_t serial = 0;  ///< of who sits here now; 0: nobody
    std::uint32_t before = kNone;
    std::uint32_t after = kNone;  ///< of a free one: the next free one
  };

  void remove(std::uint32_t index);

  mutable std::mutex mutex_;
  std::atomic<std::uint32_t> length_{0};
  std::atomic<std::uint32_t> joined_{0};  ///< how often anybody has; changed after length_
  std::vector<Node> nodes_;               ///< as many as ever waited at once
  std::uint32_t first_ = kNone;
  std::uint32_t last_ = kNone;
  std::uint32_t free_ = kNone;
  std::uint32_t serial_ = 0;
};

}  // namespace poise::balance
