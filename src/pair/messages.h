#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "poise/address.h"
#include "poise/result.h"

/// What the two boxes of a pair say to each other, and its bytes. Pure.
///
/// A frame is a length (4 bytes, network order, of what follows), a type (1 byte) and the message.
/// Numbers are in network order, texts have their length before them. A version may add types and
/// append members: an unknown type is skipped, and so is what follows the members one knows.
namespace poise::pair {

inline constexpr std::uint16_t kVersionMin = 1, kVersionMax = 1;
inline constexpr std::size_t kFrameMax = std::size_t{4} << 20;  ///< a configuration is the largest
inline constexpr std::size_t kHelloMax = 4096;                  ///< before the peer is known
inline constexpr std::size_t kBatchMax = 512;                   ///< sticky entries in one message

enum class Role : std::uint8_t { unknown, backup, master, fault };
inline constexpr std::array<std::string_view, 4> kRoleNames{"unknown", "backup", "master", "fault"};
constexpr std::string_view name_of(Role role) {
  return kRoleNames[static_cast<std::size_t>(role)];
}

/// First on every connection, from both.
struct Hello {
  std::uint16_t version_min = kVersionMin, version_max = kVersionMax;
  std::string node;
  std::string program;            ///< its version, for people
  std::uint64_t epoch = 0;        ///< of the sender's life: another one forgot what it said before
  std::uint64_t heard_epoch = 0;  ///< whose changes the sender has ...
  std::uint64_t heard = 0;        ///< ... up to this number
  bool operator==(const Hello&) const = default;
};

/// Twice a second.
struct Ping {
  std::int64_t wall_ms = 0;
  Role role = Role::unknown;
  std::uint8_t priority = 0;
  std::uint64_t config = 0;  ///< tells one configuration file from another
  bool operator==(const Ping&) const = default;
};

/// The receiver has all changes up to this number.
struct Ack {
  std::uint64_t number = 0;
  bool operator==(const Ack&) const = default;
};

struct Request {
  std::uint32_t id = 0;
  std::string verb, text;
  bool operator==(const Request&) const = default;
};

struct Answer {
  std::uint32_t id = 0;
  bool good = false;
  std::string text;
  bool operator==(const Answer&) const = default;
};

// ---- changes: numbered, acknowledged, sent again after a lost connection

struct StickyBatch {
  struct Entry {
    Address source;
    std::uint16_t backend = 0;       ///< index into `backends`
    std::uint32_t idle_seconds = 0;  ///< since a session of that source last asked
    bool operator==(const Entry&) const = default;
  };
  std::string pool;
  std::vector<std::string> backends;
  std::vector<Entry> entries;
  bool operator==(const StickyBatch&) const = default;
};

/// What an operator decided about a backend ("pool/name") or a service.
struct Decision {
  std::string name;
  std::uint8_t admin = 0;       ///< control::Admin
  std::int64_t changed_ms = 0;  ///< when; the later of two wins
  std::int64_t since_ms = 0;    ///< of `admin`
  std::string user, reason;
  std::optional<std::uint32_t> weight;
  std::uint32_t weight_configured = 1;
  bool operator==(const Decision&) const = default;
};

struct BanChange {
  Network network;
  bool banned = true;  ///< false: lifted
  std::int64_t since_ms = 0;
  std::optional<std::int64_t> until_ms;
  std::string user, reason;
  bool operator==(const BanChange&) const = default;
};

/// What the sender's probes say of a backend.
struct Verdict {
  std::string backend;
  bool up = false;
  bool operator==(const Verdict&) const = default;
};

/// Everything the sender has lies before this one.
struct SnapshotEnd {
  bool operator==(const SnapshotEnd&) const = default;
};

/// monostate: a kind that only a newer version knows.
using Change = std::variant<std::monostate, StickyBatch, Decision, BanChange, Verdict, SnapshotEnd>;

struct Numbered {
  std::uint64_t number = 0;
  Change change;
  bool operator==(const Numbered&) const = default;
};

/// monostate: a type that only a newer version knows.
using Message = std::variant<std::monostate, Hello, Ping, Ack, Request, Answer, Numbered>;

/// Appends the whole frame.
void encode(const Message& message, std::string& out);

/// Of a frame without its length. An error says what is wrong with it.
Result<Message> decode(std::string_view frame);

/// The length of the frame that `bytes` begins with; none: it has not all arrived.
std::optional<std::uint32_t> frame_length(std::string_view bytes);

}  // namespace poise::pair
