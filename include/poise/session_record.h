#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "poise/address.h"
#include "poise/ids.h"
#include "poise/reasons.h"

namespace poise {

/// Where a session is. proxy::State is this type: log lines and `show sessions` name states too,
/// and can't see proxy.
enum class SessionState : std::uint8_t {
  free,        ///< the slot is unused
  opening,     ///< client side only: an inbound PROXY header is awaited
  queued,      ///< every backend is full; the client waits its turn
  connecting,  ///< connect() in flight; another backend can still be tried
  greeting,    ///< connected, the server's first line not judged yet; another backend can still be
               ///< tried
  relaying,    ///< bytes flow; at most one direction has finished
  resetting,   ///< one side reset; what it had sent is on its way to the other, which will then be
               ///< reset too
  refusing,    ///< our own reply is on its way out; the client's end is awaited, for a bounded time
  closing,     ///< no new I/O; waiting for what is armed or in flight to come home
};

inline constexpr std::array<std::string_view, 9> kSessionStateNames{
    "free",     "opening",   "queued",   "connecting", "greeting",
    "relaying", "resetting", "refusing", "closing"};

constexpr std::string_view name_of(SessionState state) {
  return kSessionStateNames[static_cast<std::size_t>(state)];
}

/// What the sticky table had to do with the choice of the backend.
enum class StickyUse : std::uint8_t {
  none,      ///< the pool isn't sticky, or nothing was picked
  hit,       ///< the table named the backend
  inserted,  ///< "new": the source's first session
  moved,     ///< greeted elsewhere than the table said, and the entry followed
};

inline constexpr std::array<std::string_view, 4> kStickyUseNames{"-", "hit", "new", "moved"};

constexpr std::string_view name_of(StickyUse use) {
  return kStickyUseNames[static_cast<std::size_t>(use)];
}

/// One try at a backend that did not end in `ok`, or the one that did.
struct TryRecord {
  BackendId backend;
  TryOutcome outcome = TryOutcome::ok;
  std::array<char, 80>
      words{};  ///< the backend's own first line, cut, NUL-padded; empty when it said nothing
};

/// All that a session's log line says, as plain values: filled in by a worker when the session
/// ends, formatted later by the log thread. Durations are microseconds, saturating.
struct SessionRecord {
  std::uint64_t id = 0;
  std::int64_t ended_unix_us = 0;
  Address client;
  Address vip;
  Address source;       ///< our end of the backend connection
  Address destination;  ///< the backend's end
  ServiceId service;
  BackendId backend;  ///< the last one tried; none when there was none
  std::uint32_t queue_us = 0;
  std::uint32_t connect_us = 0;
  std::uint32_t greeting_us = 0;
  std::uint64_t total_us = 0;
  std::uint64_t bytes_to_client = 0;
  std::uint64_t bytes_to_backend = 0;
  CloseReason close_reason = CloseReason::client_closed;
  RefusalReason refusal = RefusalReason::bare;  ///< meaningful when close_reason is refused
  SessionState state = SessionState::free;      ///< what it was in when close() was called
  StickyUse sticky = StickyUse::none;
  bool early = false;  ///< the client spoke before the greeting
  bool client_spoke_last = false;

  /// Every try, the good one included; empty for the ordinary session, whose first try was good or
  /// which made none. Only looked at during SessionSink::write(): the memory stays the caller's.
  std::span<const TryRecord> tries;
};

/// The optional line when a session starts.
struct SessionStart {
  std::uint64_t id = 0;
  std::int64_t started_unix_us = 0;
  Address client;
  Address vip;
  ServiceId service;
};

static_assert(std::is_trivially_copyable_v<SessionRecord> &&
              std::is_trivially_copyable_v<SessionStart> &&
              std::is_trivially_copyable_v<TryRecord>);

}  // namespace poise
