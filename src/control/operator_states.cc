#include "control/operator_states.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "config/units.h"
#include "net/fd.h"
#include "net/replace_file.h"
#include "poise/number.h"

namespace poise::control {
namespace {

constexpr std::string_view kHeader = "poise-operator-states 1";
constexpr std::size_t kFileBytesMax = 64 << 20;

std::string escaped(std::string_view text) {
  std::string out;
  for (const char each : text) {
    const auto byte = static_cast<unsigned char>(each);
    if (byte < 0x20 || byte == 0x7f || each == '%')
      out += fmt::format("%{:02x}", byte);
    else
      out += each;
  }
  return out;
}

std::optional<std::string> unescaped(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '%') {
      out += text[at];
      continue;
    }
    if (at + 2 >= text.size()) return std::nullopt;
    const auto byte = parse_number<std::uint8_t>(text.substr(at + 1, 2), 0xff, 16);
    if (!byte) return std::nullopt;
    out += static_cast<char>(*byte);
    at += 2;
  }
  return out;
}

std::vector<std::string_view> split(std::string_view text, char by) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(by);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

WallTime at_second(std::int64_t seconds) {
  return WallTime(std::chrono::seconds(seconds));
}

std::int64_t second_of(WallTime time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

/// name, admin, seconds since 1970, user, reason, weight or -, configured weight
std::optional<std::pair<std::string, OperatorStates::State>> parse(std::string_view line) {
  const auto fields = split(line, '\t');
  if (fields.size() != 7) return std::nullopt;
  OperatorStates::State state;
  const auto admin = std::find(kAdminNames.begin(), kAdminNames.end(), fields[1]);
  const auto since = parse_number<std::int64_t>(fields[2]);
  const auto name = unescaped(fields[0]), user = unescaped(fields[3]),
             reason = unescaped(fields[4]);
  const auto configured = parse_number<unsigned>(fields[6]);
  if (admin == kAdminNames.end() || !since || !name || !user || !reason || !configured)
    return std::nullopt;
  if (fields[5] != "-") {
    state.weight = parse_number<unsigned>(fields[5]);
    if (!state.weight) return std::nullopt;
  }
  state.admin.admin = static_cast<Admin>(admin - kAdminNames.begin());
  state.admin.since = at_second(*since);
  state.admin.user = *user;
  state.admin.reason = *reason;
  state.weight_configured = *configured;
  state.changed = state.admin.since;
  return std::pair(*name, state);
}

constexpr std::string_view kBanned = "banned";

/// network, "banned", seconds since 1970, user, reason, until when or -
std::optional<Ban> parse_ban(const std::vector<std::string_view>& fields) {
  if (fields.size() != 6) return std::nullopt;
  const auto network = config::parse_network(fields[0]);
  const auto since = parse_number<std::int64_t>(fields[2]);
  const auto user = unescaped(fields[3]), reason = unescaped(fields[4]);
  if (!network || !since || !user || !reason) return std::nullopt;
  Ban ban{.network = *network,
          .since = at_second(*since),
          .until = {},
          .reason = *reason,
          .user = *user};
  if (fields[5] == "-") return ban;
  const auto until = parse_number<std::int64_t>(fields[5]);
  if (!until) return std::nullopt;
  ban.until = at_second(*until);
  return ban;
}

}  // namespace

Result<void> OperatorStates::load() {
  if (path_.empty()) return {};
  const net::Fd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT) return {};
    return Error{path_, std::strerror(errno)};
  }
  std::string text;
  std::array<char, 65536> block;
  for (;;) {
    const ssize_t got = ::read(fd.get(), block.data(), block.size());
    if (got < 0) return Error{path_, std::strerror(errno)};
    if (got == 0) break;
    text.append(block.data(), static_cast<std::size_t>(got));
    if (text.size() > kFileBytesMax) return Error{path_, "too large to be ours"};
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  const auto lines = split(text, '\n');
  if (lines.front() != kHeader)
    return Error{path_, fmt::format("does not begin with \"{}\"; it is left alone until the next "
                                    "command writes it anew",
                                    kHeader)};
  std::map<std::string, State> states;
  Bans bans;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const auto fields = split(lines[i], '\t');
    if (fields.size() > 1 && fields[1] == kBanned) {
      auto ban = parse_ban(fields);
      const bool lifted = ban && ban->until && *ban->until <= ban->since;
      if (lifted)
        bans.remember_lifted(std::move(*ban));
      else if (!ban || !bans.add(std::move(*ban)))
        return Error{fmt::format("{}:{}", path_, i + 1), "not a ban of this file"};
      continue;
    }
    auto state = parse(lines[i]);
    if (!state) return Error{fmt::format("{}:{}", path_, i + 1), "not a line of this file"};
    states.insert(std::move(*state));
  }
  states_ = std::move(states);
  bans_ = std::move(bans);
  return {};
}

Result<void> OperatorStates::save() const {
  if (path_.empty()) return {};
  std::string text = fmt::format("{}\n", kHeader);
  for (const auto& [name, state] : states_) {
    text += fmt::format(
        "{}\t{}\t{}\t{}\t{}\t{}\t{}\n", escaped(name), name_of(state.admin.admin),
        second_of(state.admin.admin == Admin::enabled ? state.changed : state.admin.since),
        escaped(state.admin.user), escaped(state.admin.reason),
        state.weight ? std::to_string(*state.weight) : "-", state.weight_configured);
  }
  for (const auto* bans : {&bans_.all(), &bans_.lifted()})
    for (const auto& [network, ban] : *bans)
      text += fmt::format("{}\t{}\t{}\t{}\t{}\t{}\n", network.text(), kBanned, second_of(ban.since),
                          escaped(ban.user), escaped(ban.reason),
                          ban.until ? std::to_string(second_of(*ban.until)) : "-");
  return net::replace_file(path_, text, {.mode = 0600, .durable = true});
}

const OperatorStates::State* OperatorStates::find(const std::string& name) const {
  const auto at = states_.find(name);
  return at != states_.end() ? &at->second : nullptr;
}

void OperatorStates::set(const std::string& name, State state) {
  states_[name] = std::move(state);
}

}  // namespace poise::control
