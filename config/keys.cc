#include "config/keys.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace poise::config {
namespace {

using std::chrono::milliseconds;

/// A key as a step of a pointer: RFC 6901 escapes, and nothing that could break the message's line.
std::string pointer_step(std::string_view key) {
  std::string quoted = quote(key);
  std::string step;
  for (const char c : std::string_view(quoted).substr(1, quoted.size() - 2)) {
    if (c == '~')
      step += "~0";
    else if (c == '/')
      step += "~1";
    else
      step += c;
  }
  return step;
}

/// The one place where a key of this name would be right; empty if there is none or more than one.
std::string home_of(std::string_view key) {
  std::set<std::string> homes;
  std::set<std::string> seen;
  const std::function<void(const KeyInfo&)> visit = [&](const KeyInfo& info) {
    if (!info.nested || !seen.insert(info.definition).second) return;
    for (const KeyInfo* inner : info.nested()) {
      if (inner->name == key) homes.insert(quote(info.name));
      visit(*inner);
    }
  };
  for (const KeyInfo* info : infos(config_keys())) {
    if (info->name == key) homes.insert("the root");
    visit(*info);
  }
  return homes.size() == 1 ? *homes.begin() : std::string();
}

bool has_control_character(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

Reader::Scope::Scope(Reader& reader, std::string_view key)
    : reader_(reader), before_(reader.path_.size()) {
  reader.path_ += "/" + pointer_step(key);
}

Reader::Scope::Scope(Reader& reader, std::size_t index)
    : reader_(reader), before_(reader.path_.size()) {
  reader.path_ += fmt::format("/{}", index);
}

Node node_from(const Json& value) {
  Node node;
  switch (value.type()) {
    case Json::value_t::boolean:
      node.kind = Node::Kind::boolean;
      node.boolean = value.get<bool>();
      break;
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      node.kind = Node::Kind::integer;
      node.integer = value.get<std::int64_t>();
      node.real = static_cast<double>(node.integer);
      break;
    case Json::value_t::number_float:
      node.kind = Node::Kind::real;
      node.real = value.get<double>();
      break;
    case Json::value_t::string:
      node.kind = Node::Kind::string;
      node.text = value.get<std::string>();
      break;
    case Json::value_t::array:
      node.kind = Node::Kind::array;
      break;  // defaults are empty lists
    case Json::value_t::object:
      node.kind = Node::Kind::object;
      break;  // and empty objects
    case Json::value_t::null:
    case Json::value_t::binary:
    case Json::value_t::discarded:
      break;
  }
  return node;
}

std::optional<std::string> read_string(Reader& reader, const Node& node,
                                       std::string_view expected) {
  if (node.kind != Node::Kind::string) {
    reader.error(node, fmt::format("expected {}, got {}", expected, node.describe()));
    return std::nullopt;
  }
  if (has_control_character(node.text)) {
    reader.error(node, fmt::format("{}: control characters are not allowed", quote(node.text)));
    return std::nullopt;
  }
  return node.text;
}

std::optional<bool> read_boolean(Reader& reader, const Node& node) {
  if (node.kind == Node::Kind::boolean) return node.boolean;
  reader.error(node, fmt::format("expected true or false, got {}", node.describe()));
  return std::nullopt;
}

std::optional<std::int64_t> read_integer(Reader& reader, const Node& node, std::int64_t min,
                                         std::int64_t max) {
  if (node.kind != Node::Kind::integer && node.kind != Node::Kind::real) {
    reader.error(
        node, fmt::format("expected a whole number in {}..{}, got {}", min, max, node.describe()));
    return std::nullopt;
  }
  if (node.kind == Node::Kind::real || node.integer < min || node.integer > max) {
    const bool fraction = node.kind == Node::Kind::real && node.real >= static_cast<double>(min) &&
                          node.real <= static_cast<double>(max);
    const std::string shown = node.describe().substr(std::string_view("the number ").size());
    reader.error(node, fraction ? fmt::format("{} is not a whole number; {}..{} are accepted",
                                              shown, min, max)
                                : fmt::format("{} is not in {}..{}", shown, min, max));
    return std::nullopt;
  }
  return node.integer;
}

std::optional<double> read_number(Reader& reader, const Node& node, double min, double max) {
  if (node.kind != Node::Kind::integer && node.kind != Node::Kind::real) {
    reader.error(node,
                 fmt::format("expected a number in {}..{}, got {}", min, max, node.describe()));
    return std::nullopt;
  }
  if (!(node.real >= min && node.real <= max)) {
    const std::string shown = node.describe().substr(std::string_view("the number ").size());
    reader.error(node, fmt::format("{} is not in {}..{}", shown, min, max));
    return std::nullopt;
  }
  return node.real;
}

std::optional<std::size_t> read_word(Reader& reader, const Node& node,
                                     std::span<const std::string> words) {
  if (node.kind != Node::Kind::string) {
    reader.error(node,
                 fmt::format("expected one of {}; got {}", enumerate(words), node.describe()));
    return std::nullopt;
  }
  const auto found = std::find(words.begin(), words.end(), node.text);
  if (found != words.end()) return static_cast<std::size_t>(found - words.begin());
  reader.error(node, fmt::format("{} is not one of: {}{}", quote(node.text), enumerate(words),
                                 did_you_mean(node.text, words)));
  return std::nullopt;
}

std::optional<milliseconds> read_duration(Reader& reader, const Node& node,
                                          const DurationRange& range) {
  const bool number = node.kind == Node::Kind::integer || node.kind == Node::Kind::real;
  if (number && node.real == 0 && (range.zero || reader.reading_defaults())) return milliseconds(0);
  if (number) {
    const std::string suggestion = node.kind == Node::Kind::integer && node.integer > 0
                                       ? fmt::format("; did you mean \"{}s\"?", node.text)
                                       : "";
    reader.error(node, fmt::format("expected a duration with its unit, like \"15s\", got {}{}",
                                   node.describe(), suggestion));
    return std::nullopt;
  }
  const auto value = read_string(reader, node, "a duration like \"15s\"");
  if (!value) return std::nullopt;
  const Result<milliseconds> parsed = parse_duration(*value);
  if (!parsed) {
    reader.error(node, fmt::format("{}: {}", quote(*value), parsed.error().what));
    return std::nullopt;
  }
  if (reader.reading_defaults() || (range.zero && parsed->count() == 0)) return *parsed;
  if (*parsed < range.min || *parsed > range.max) {
    reader.error(node,
                 fmt::format("{} is not in {}..{}{}", quote(*value), format_duration(range.min),
                             format_duration(range.max), range.zero ? ", nor \"0s\"" : ""));
    return std::nullopt;
  }
  if (range.whole_seconds && parsed->count() % 1000 != 0) {
    reader.error(node, fmt::format("{}: the kernel counts this in whole seconds", quote(*value)));
    return std::nullopt;
  }
  return *parsed;
}

std::optional<Rate> read_rate(Reader& reader, const Node& node) {
  if (node.kind == Node::Kind::integer && node.integer == 0) return Rate{};
  const auto value = read_string(reader, node, "a rate like \"10/s\"");
  if (!value) return std::nullopt;
  const Result<Rate> parsed = parse_rate(*value);
  if (parsed) return *parsed;
  reader.error(node, fmt::format("{}: {}", quote(*value), parsed.error().what));
  return std::nullopt;
}

bool expect_object(Reader& reader, const Node& node, bool or_off) {
  if (node.kind == Node::Kind::object) return true;
  reader.error(node, fmt::format("expected an object {{ ... }}{}, got {}",
                                 or_off ? " or \"off\"" : "", node.describe()));
  return false;
}

bool expect_list(Reader& reader, const Node& node, std::string_view example, std::size_t max) {
  if (node.kind != Node::Kind::array) {
    reader.error(node, fmt::format("expected a list like {}, got {}", example, node.describe()));
    return false;
  }
  if (node.items.size() > max)
    reader.error(node, fmt::format("{} entries, {} are allowed", node.items.size(), max));
  return true;
}

std::vector<Network> read_networks(Reader& reader, const Node& node) {
  std::vector<Network> list;
  if (!expect_list(reader, node, "[\"192.0.2.0/24\"]", kNetworksMax)) return list;
  for (std::size_t i = 0; i < node.items.size() && i < kNetworksMax; ++i) {
    Reader::Scope scope(reader, i);
    const Node& item = node.items[i];
    const auto value = read_string(reader, item, "a network like \"192.0.2.0/24\"");
    if (!value) continue;
    const Result<Network> network = parse_network(*value);
    if (network)
      list.push_back(*network);
    else
      reader.error(item, fmt::format("{}: {}", quote(*value), network.error().what));
  }
  return list;
}

void report_unknown_keys(Reader& reader, const Node& object,
                         const std::vector<const KeyInfo*>& known) {
  std::vector<std::string> names;
  for (const KeyInfo* info : known) names.push_back(info->name);
  for (const Member& member : object.members) {
    Problems& problems = reader.problems();
    const bool is_known = std::find(names.begin(), names.end(), member.key) != names.end();
    if (is_known && !member.first_begin) continue;
    if (problems.full()) {
      problems.error(member.begin, reader.path(), {});  // only counted; naming it would cost
      continue;
    }
    Reader::Scope scope(reader, member.key);
    if (member.first_begin) {
      problems.error(member.begin, reader.path(),
                     fmt::format("duplicate key {}; it is already on line {}", quote(member.key),
                                 problems.line_of(*member.first_begin)));
    } else {
      std::string hint = did_you_mean(member.key, names);
      if (const std::string home = hint.empty() ? home_of(member.key) : ""; !home.empty()) {
        hint = fmt::format("; it belongs in {}", home);
      }
      problems.error(
          member.begin, reader.path(),
          fmt::format("unknown key {}{} (known: {})", quote(member.key), hint, enumerate(names)));
    }
  }
}

void report_missing(Reader& reader, const Node& object, const KeyInfo& key) {
  reader.error(object, fmt::format("key \"{}\" is missing: {}", key.name, key.doc));
}

Json duration_schema(const DurationRange& range) {
  const Json text = {{"type", "string"}, {"pattern", "^([0-9]+(ms|s|m|h|d))+$"}};
  if (!range.zero) return text;
  return {{"anyOf", Json::array({text, Json{{"const", 0}}})}};
}

Json rate_schema() {
  return {{"anyOf", Json::array({Json{{"type", "string"}, {"pattern", "^[0-9]+/[smh]$"}},
                                 Json{{"const", 0}}})}};
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= 64 &&
         text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
             std::string_view::npos;
}

}  // namespace poise::config
