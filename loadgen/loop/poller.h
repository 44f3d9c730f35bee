#pragma once

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <span>

#include "loadgen/loop/time.h"
#include "net/fd.h"

namespace poise::loadgen {

/// Names what an event is for: a slot and its generation, so that an event for a connection closed
/// earlier in the same batch is recognised and dropped.
struct Tag {
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;

  [[nodiscard]] std::uint64_t packed() const { return std::uint64_t{generation} << 32 | slot; }
  static Tag unpacked(std::uint64_t value) {
    return {static_cast<std::uint32_t>(value), static_cast<std::uint32_t>(value >> 32)};
  }
};

/// epoll, thinly. Connections are added once, edge-triggered for both directions: one epoll_ctl a
/// connection, none to remove it (close does).
class Poller {
 public:
  Poller();

  /// Edge-triggered: whoever gets the event reads until a short read, and to the end when it says
  /// EPOLLRDHUP.
  void add_connection(int fd, Tag tag);
  /// Level-triggered, readable: listeners and the signal fd.
  void add_readable(int fd, Tag tag);
  void remove(int fd);

  struct Event {
    Tag tag;
    std::uint32_t events;
  };
  /// Waits until something happens, at most until `deadline` (kNever: for ever).
  std::span<const Event> wait(Nanos deadline);

 private:
  void add(int fd, Tag tag, std::uint32_t events);

  net::Fd epoll_;
  std::array<epoll_event, 512> raw_{};
  std::array<Event, 512> events_{};
};

}  // namespace poise::loadgen
