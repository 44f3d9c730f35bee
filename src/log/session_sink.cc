#include "log/session_sink.h"

#include <algorithm>
#include <cstring>

namespace poise::log {

namespace {

/// A ring record's tag: kind in the lowest 2 bits, tries stored in the next 6, tries omitted in the
/// rest.
constexpr std::uint32_t kKindBits = 2;
constexpr std::uint32_t kStoredBits = 6;
constexpr std::uint32_t kOmittedMax = (1u << 16) - 1;
static_assert(kTriesMax < (1u << kStoredBits));

constexpr std::uint32_t make_tag(SessionSink::Kind kind, std::size_t stored = 0,
                                 std::size_t omitted = 0) {
  return static_cast<std::uint32_t>(kind) | static_cast<std::uint32_t>(stored) << kKindBits |
         static_cast<std::uint32_t>(std::min<std::size_t>(omitted, kOmittedMax))
             << (kKindBits + kStoredBits);
}

constexpr SessionSink::Kind kind_of(std::uint32_t tag) {
  return static_cast<SessionSink::Kind>(tag & ((1u << kKindBits) - 1));
}

/// Both kinds begin with an id and a time, so that the merge needn't know which it is.
struct Prefix {
  std::uint64_t id;
  std::int64_t unix_us;
};
static_assert(offsetof(SessionRecord, ended_unix_us) == offsetof(Prefix, unix_us));
static_assert(offsetof(SessionStart, started_unix_us) == offsetof(Prefix, unix_us));

}  // namespace

void SessionSink::write(const SessionRecord& record) noexcept {
  const std::size_t tries = record.tries.size();
  const std::size_t stored = std::min(tries, kTriesMax);
  std::byte* room = ring_.reserve(make_tag(Kind::end, stored, tries - stored),
                                  sizeof record + stored * sizeof(TryRecord));
  if (room == nullptr) return drop();
  std::memcpy(room, &record, sizeof record);  // with the span, which front() replaces
  if (stored > 0) {
    // Of too many the first ones and the last, which tells how it ended.
    room += sizeof record;
    std::memcpy(room, record.tries.data(), (stored - 1) * sizeof(TryRecord));
    std::memcpy(room + (stored - 1) * sizeof(TryRecord), &record.tries.back(), sizeof(TryRecord));
  }
  published();
}

void SessionSink::write_start(const SessionStart& start) noexcept {
  std::byte* room = ring_.reserve(make_tag(Kind::start), sizeof start);
  if (room == nullptr) return drop();
  std::memcpy(room, &start, sizeof start);
  published();
}

void SessionSink::published() noexcept {
  ring_.publish();
  doorbell_.ring(ring_.more_than_half_full());
}

void SessionSink::drop() noexcept {
  // One writer: no read-modify-write needed.
  dropped_.store(dropped_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  doorbell_.ring(true);
}

std::int64_t SessionSink::next_unix_us() noexcept {
  const Ring::Item item = ring_.front();
  if (item.data == nullptr) return INT64_MAX;
  Prefix prefix;
  std::memcpy(&prefix, item.data, sizeof prefix);
  return std::min(prefix.unix_us, INT64_MAX - 1);
}

SessionSink::Kind SessionSink::front(SessionEnd& end, SessionStart& start) noexcept {
  const Ring::Item item = ring_.front();
  if (item.data == nullptr) return Kind::none;
  if (kind_of(item.tag) == Kind::start) {
    std::memcpy(&start, item.data, sizeof start);
    return Kind::start;
  }
  std::memcpy(&end.record, item.data, sizeof end.record);
  const std::size_t stored = item.tag >> kKindBits & ((1u << kStoredBits) - 1);
  end.tries_omitted = item.tag >> (kKindBits + kStoredBits);
  // Written there by memcpy from an array of TryRecords, at a multiple of 8: they are such objects.
  static_assert(sizeof(SessionRecord) % alignof(TryRecord) == 0 && alignof(TryRecord) <= 8);
  end.record.tries = {reinterpret_cast<const TryRecord*>(item.data + sizeof end.record), stored};
  return Kind::end;
}

}  // namespace poise::log
