#include "pair/messages.h"

#include <fmt/format.h>

#include <array>
#include <type_traits>
#include <utility>

namespace poise::pair {
namespace {

enum class Type : std::uint8_t { hello = 1, ping, ack, request, answer, change };
enum class Kind : std::uint8_t { sticky = 1, decision, ban, verdict, snapshot_end };

constexpr std::size_t kLengthBytes = 4;

class Writer {
 public:
  explicit Writer(std::string& out) : out_(out) {}

  template <class Number>
  void number(Number value) {
    static_assert(std::is_integral_v<Number>);
    auto bits = static_cast<std::make_unsigned_t<Number>>(value);
    std::array<char, sizeof bits> bytes;
    for (std::size_t i = sizeof bits; i-- > 0;) {
      bytes[i] = static_cast<char>(bits & 0xffu);
      if constexpr (sizeof bits > 1) bits = static_cast<decltype(bits)>(bits >> 8u);
    }
    out_.append(bytes.data(), bytes.size());
  }
  void flag(bool value) { number<std::uint8_t>(value ? 1 : 0); }
  void text(std::string_view value) {
    number(static_cast<std::uint32_t>(value.size()));
    out_ += value;
  }
  void address(const Address& value) {
    const std::size_t size = value.is_v4() ? 4 : 16;
    number(static_cast<std::uint8_t>(size));
    for (std::size_t i = 0; i < size; ++i) number(value.ip[i]);
  }
  template <class Number>
  void optional(const std::optional<Number>& value) {
    flag(value.has_value());
    if (value) number(*value);
  }

 private:
  std::string& out_;
};

/// After the first failure everything reads as nothing, and good() is false.
class Reader {
 public:
  explicit Reader(std::string_view in) : in_(in) {}

  template <class Number>
  void number(Number& value) {
    std::make_unsigned_t<Number> bits = 0;
    if (!has(sizeof bits)) return;
    for (std::size_t i = 0; i < sizeof bits; ++i) {
      if constexpr (sizeof bits > 1) bits = static_cast<decltype(bits)>(bits << 8u);
      bits = static_cast<decltype(bits)>(bits | static_cast<std::uint8_t>(in_[i]));
    }
    value = static_cast<Number>(bits);
    in_.remove_prefix(sizeof bits);
  }
  void flag(bool& value) {
    std::uint8_t byte = 0;
    number(byte);
    value = byte != 0;
  }
  void text(std::string& value) {
    std::uint32_t size = 0;
    number(size);
    if (!has(size)) return;
    value = in_.substr(0, size);
    in_.remove_prefix(size);
  }
  void address(Address& value) {
    std::uint8_t size = 0;
    number(size);
    if (size != 4 && size != 16) good_ = false;
    value.family = size == 4 ? AF_INET : AF_INET6;
    for (std::size_t i = 0; good_ && i < size; ++i) number(value.ip[i]);
  }
  template <class Number>
  void optional(std::optional<Number>& value) {
    bool there = false;
    flag(there);
    if (there) number(value.emplace());
  }
  /// A count of things of which each takes a byte at least.
  std::size_t count() {
    std::uint32_t value = 0;
    number(value);
    return has(value) ? value : 0;
  }
  void check(bool condition) { good_ = good_ && condition; }
  [[nodiscard]] bool good() const { return good_; }

 private:
  bool has(std::size_t bytes) {
    good_ = good_ && in_.size() >= bytes;
    return good_;
  }
  std::string_view in_;
  bool good_ = true;
};

// The members of each message, in their order, for reading and writing alike.

template <class Coder, class M>
void members(Coder& coder, M& hello, const Hello*) {
  coder.number(hello.version_min);
  coder.number(hello.version_max);
  coder.text(hello.node);
  coder.text(hello.program);
  coder.number(hello.epoch);
  coder.number(hello.heard_epoch);
  coder.number(hello.heard);
}

template <class Coder, class M>
void members(Coder& coder, M& ack, const Ack*) {
  coder.number(ack.number);
}

template <class Coder, class M>
void members(Coder& coder, M& request, const Request*) {
  coder.number(request.id);
  coder.text(request.verb);
  coder.text(request.text);
}

template <class Coder, class M>
void members(Coder& coder, M& answer, const Answer*) {
  coder.number(answer.id);
  coder.flag(answer.good);
  coder.text(answer.text);
}

template <class Coder, class M>
void members(Coder& coder, M& decision, const Decision*) {
  coder.text(decision.name);
  coder.number(decision.admin);
  coder.number(decision.changed_ms);
  coder.number(decision.since_ms);
  coder.text(decision.user);
  coder.text(decision.reason);
  coder.optional(decision.weight);
  coder.number(decision.weight_configured);
}

template <class Coder, class M>
void members(Coder& coder, M& verdict, const Verdict*) {
  coder.text(verdict.backend);
  coder.flag(verdict.up);
}

template <class Coder, class M>
void members(Coder&, M&, const SnapshotEnd*) {}

void members(Writer& writer, const Ping& ping, const Ping*) {
  writer.number(ping.wall_ms);
  writer.number(static_cast<std::uint8_t>(ping.role));
  writer.number(ping.priority);
  writer.number(ping.config);
}
void members(Reader& reader, Ping& ping, const Ping*) {
  std::uint8_t role = 0;
  reader.number(ping.wall_ms);
  reader.number(role);
  reader.number(ping.priority);
  reader.number(ping.config);
  ping.role = role < kRoleNames.size() ? static_cast<Role>(role) : Role::unknown;
}

void members(Writer& writer, const BanChange& ban, const BanChange*) {
  writer.address(ban.network.base);
  writer.number(ban.network.prefix);
  writer.flag(ban.banned);
  writer.number(ban.since_ms);
  writer.optional(ban.until_ms);
  writer.text(ban.user);
  writer.text(ban.reason);
}
void members(Reader& reader, BanChange& ban, const BanChange*) {
  Address base;
  reader.address(base);
  reader.number(ban.network.prefix);
  reader.check(ban.network.prefix <= base.bits());
  ban.network.base = masked(base, ban.network.prefix);
  reader.flag(ban.banned);
  reader.number(ban.since_ms);
  reader.optional(ban.until_ms);
  reader.text(ban.user);
  reader.text(ban.reason);
}

void members(Writer& writer, const StickyBatch& batch, const StickyBatch*) {
  writer.text(batch.pool);
  writer.number(static_cast<std::uint32_t>(batch.backends.size()));
  for (const std::string& each : batch.backends) writer.text(each);
  writer.number(static_cast<std::uint32_t>(batch.entries.size()));
  for (const StickyBatch::Entry& each : batch.entries) {
    writer.address(each.source);
    writer.number(each.backend);
    writer.number(each.idle_seconds);
  }
}
void members(Reader& reader, StickyBatch& batch, const StickyBatch*) {
  reader.text(batch.pool);
  const std::size_t backends = reader.count();
  for (std::size_t i = 0; i < backends && reader.good(); ++i)
    reader.text(batch.backends.emplace_back());
  const std::size_t entries = reader.count();
  reader.check(entries <= kBatchMax);
  for (std::size_t i = 0; i < entries && reader.good(); ++i) {
    StickyBatch::Entry& entry = batch.entries.emplace_back();
    reader.address(entry.source);
    reader.number(entry.backend);
    reader.number(entry.idle_seconds);
    reader.check(entry.backend < batch.backends.size());
  }
}

template <class M>
constexpr Kind kind_of() {
  if constexpr (std::is_same_v<M, StickyBatch>) return Kind::sticky;
  if constexpr (std::is_same_v<M, Decision>) return Kind::decision;
  if constexpr (std::is_same_v<M, BanChange>) return Kind::ban;
  if constexpr (std::is_same_v<M, Verdict>) return Kind::verdict;
  if constexpr (std::is_same_v<M, SnapshotEnd>) return Kind::snapshot_end;
  return Kind{};
}

template <class M>
constexpr Type type_of() {
  if constexpr (std::is_same_v<M, Hello>) return Type::hello;
  if constexpr (std::is_same_v<M, Ping>) return Type::ping;
  if constexpr (std::is_same_v<M, Ack>) return Type::ack;
  if constexpr (std::is_same_v<M, Request>) return Type::request;
  if constexpr (std::is_same_v<M, Answer>) return Type::answer;
  if constexpr (std::is_same_v<M, Numbered>) return Type::change;
  return Type{};
}

void members(Writer& writer, const Numbered& numbered, const Numbered*) {
  writer.number(numbered.number);
  std::visit(
      [&writer](const auto& change) {
        using M = std::decay_t<decltype(change)>;
        writer.number(static_cast<std::uint8_t>(kind_of<M>()));
        if constexpr (!std::is_same_v<M, std::monostate>)
          members(writer, change, static_cast<const M*>(nullptr));
      },
      numbered.change);
}

template <class M>
Change change_of(Reader& reader) {
  M change;
  members(reader, change, static_cast<const M*>(nullptr));
  return change;
}

void members(Reader& reader, Numbered& numbered, const Numbered*) {
  std::uint8_t kind = 0;
  reader.number(numbered.number);
  reader.number(kind);
  switch (static_cast<Kind>(kind)) {
    case Kind::sticky:
      numbered.change = change_of<StickyBatch>(reader);
      return;
    case Kind::decision:
      numbered.change = change_of<Decision>(reader);
      return;
    case Kind::ban:
      numbered.change = change_of<BanChange>(reader);
      return;
    case Kind::verdict:
      numbered.change = change_of<Verdict>(reader);
      return;
    case Kind::snapshot_end:
      numbered.change = SnapshotEnd{};
      return;
  }
}

template <class M>
Message message_of(Reader& reader) {
  M message;
  members(reader, message, static_cast<const M*>(nullptr));
  return message;
}

Message message_of(Reader& reader, Type type) {
  switch (type) {
    case Type::hello:
      return message_of<Hello>(reader);
    case Type::ping:
      return message_of<Ping>(reader);
    case Type::ack:
      return message_of<Ack>(reader);
    case Type::request:
      return message_of<Request>(reader);
    case Type::answer:
      return message_of<Answer>(reader);
    case Type::change:
      return message_of<Numbered>(reader);
  }
  return {};
}

}  // namespace

void encode(const Message& message, std::string& out) {
  const std::size_t begin = out.size();
  Writer writer(out);
  writer.number<std::uint32_t>(0);
  std::visit(
      [&writer](const auto& each) {
        using M = std::decay_t<decltype(each)>;
        writer.number(static_cast<std::uint8_t>(type_of<M>()));
        if constexpr (!std::is_same_v<M, std::monostate>)
          members(writer, each, static_cast<const M*>(nullptr));
      },
      message);
  std::string length;
  Writer(length).number(static_cast<std::uint32_t>(out.size() - begin - kLengthBytes));
  out.replace(begin, kLengthBytes, length);
}

Result<Message> decode(std::string_view frame) {
  Reader reader(frame);
  std::uint8_t type = 0;
  reader.number(type);
  Message message = message_of(reader, static_cast<Type>(type));
  if (!reader.good())
    return Error{"",
                 fmt::format("a message of type {} and {} bytes that is none", type, frame.size())};
  return message;
}

std::optional<std::uint32_t> frame_length(std::string_view bytes) {
  if (bytes.size() < kLengthBytes) return std::nullopt;
  std::uint32_t length = 0;
  Reader(bytes).number(length);
  return length;
}

}  // namespace poise::pair
