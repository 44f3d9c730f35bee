#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "pair/messages.h"
#include "poise/result.h"

/// One box's end of the conversation with the other, whatever carries the bytes. Pure: no socket,
/// no clock, no thread. Outlives connections: what the peer has not acknowledged is said again on
/// the next one; a peer that has forgotten what it heard (it was restarted) is told so by Joined.
namespace poise::pair {

/// A connection is of use: the peer is who it should be and speaks a version that we do.
struct Joined {
  Hello peer;
  std::uint16_t version = 0;
  bool wants_everything = false;  ///< it has nothing of ours: all is to be said from the start
  bool forgot = false;            ///< it is in another life than the one we last heard
};

using Event = std::variant<Joined, Ping, Request, Answer, Change>;

class Protocol {
 public:
  struct Self {
    std::string node, program;
    std::string peer;         ///< whom we talk to, and to nobody else
    std::uint64_t epoch = 0;  ///< random, never 0
    std::uint16_t version_min = kVersionMin, version_max = kVersionMax;
  };
  /// Changes on their way, not acknowledged: beyond this room() says no.
  static constexpr std::size_t kWindowBytes = std::size_t{512} * 1024;

  explicit Protocol(Self self) : self_(std::move(self)) {}

  // --- the connection
  void connected();  ///< output() begins with our hello
  void disconnected();
  /// An error ends the connection.
  Result<void> receive(std::string_view bytes);
  /// What is to be sent; the caller takes from its front.
  [[nodiscard]] std::string& output() { return out_; }
  [[nodiscard]] std::vector<Event> take_events() { return std::exchange(events_, {}); }

  // --- what we have to say; nothing of it before joined()
  [[nodiscard]] bool joined() const { return joined_; }
  [[nodiscard]] bool room() const { return joined_ && unacked_bytes_ < kWindowBytes; }
  void push(Change change);
  void send(const Message& message);

  [[nodiscard]] std::size_t unacknowledged() const { return unacked_.size(); }
  [[nodiscard]] std::uint64_t pushed() const { return pushed_; }
  [[nodiscard]] std::uint64_t acknowledged() const { return acknowledged_; }
  [[nodiscard]] std::uint64_t heard() const { return heard_; }

 private:
  Result<void> on_frame(std::string_view frame);
  Result<void> on_hello(const Hello& hello);
  void on_ack(std::uint64_t number);
  Result<void> on_change(Numbered numbered);

  struct Unacked {
    std::uint64_t number;
    std::string frame;
  };

  const Self self_;
  std::string in_, out_;
  std::vector<Event> events_;
  bool connected_ = false, joined_ = false;
  bool begun_ = false;  ///< the owner was told that the peer wants everything
  std::deque<Unacked> unacked_;
  std::size_t unacked_bytes_ = 0;
  std::uint64_t pushed_ = 0, acknowledged_ = 0;
  std::uint64_t heard_epoch_ = 0, heard_ = 0;
};

}  // namespace poise::pair
