#pragma once

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/document.h"
#include "config/nearest.h"
#include "config/problem.h"
#include "config/units.h"
#include "poise/config.h"

/// One table of keys an object. It drives reading, defaults, the list of known keys in messages,
/// --print-config and schema.json, so these cannot drift apart. Inside config/ only. Tables are
/// built at first use and constant from then on.
namespace poise::config {

using Json = nlohmann::ordered_json;

/// What a key is to everyone who need not know the struct it fills.
struct KeyInfo {
  std::string name;
  std::string doc;
  Json schema;                            ///< of the value, without description and default
  std::function<Json(Protocol)> initial;  ///< the default; empty: none
  bool required = false;
  bool initial_is_found = false;  ///< `initial` stands for what the machine says
  bool leaf =
      true;  ///< a bad value is replaced by the default, so that no check complains of it again
  std::vector<std::string> words;  ///< accepted words, if they are a closed set
  std::string definition;          ///< of objects: their name in the schema
  std::function<std::vector<const KeyInfo*>()> nested;  ///< of objects: their keys
};

/// The state of one reading: where we are in the file and what is known about the objects around.
class Reader {
 public:
  explicit Reader(Problems& problems) : problems_(problems) {}

  [[nodiscard]] Problems& problems() { return problems_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// Defaults of the tables are being read: ranges don't apply (a default may be "0s": off).
  [[nodiscard]] bool reading_defaults() const { return defaults_ > 0; }

  void error(const Node& node, std::string message) {
    problems_.error(node.begin, path_, std::move(message));
  }

  /// Of the service being read, or of the first service of the pool being read.
  Protocol protocol = Protocol::tcp;
  std::string hostname;  ///< the default
  std::optional<std::vector<std::string>>
      pool_names;                        ///< in the file's order; absent when there is no list
  std::vector<Protocol> pool_protocols;  ///< as long as pool_names

  /// Steps into a member or an element for as long as it lives.
  class Scope {
   public:
    Scope(Reader& reader, std::string_view key);
    Scope(Reader& reader, std::size_t index);
    ~Scope() { reader_.path_.resize(before_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Reader& reader_;
    std::size_t before_;
  };

  class Defaults {
   public:
    explicit Defaults(Reader& reader) : reader_(reader) { ++reader_.defaults_; }
    ~Defaults() { --reader_.defaults_; }
    Defaults(const Defaults&) = delete;
    Defaults& operator=(const Defaults&) = delete;

   private:
    Reader& reader_;
  };

 private:
  Problems& problems_;
  std::string path_;
  unsigned defaults_ = 0;
};

/// What printing needs to know beyond the value itself.
struct Printer {
  const std::vector<Pool>& pools;
};

/// A value that is left out of the print.
inline Json not_printed() {
  return Json(Json::value_t::discarded);
}

template <class T>
struct Key : KeyInfo {
  std::function<void(Reader&, const Node&, T&)> read;
  std::function<Json(const Printer&, const T&)> print;

  Key initially(Json value) && {
    initial = [value = std::move(value)](Protocol) { return value; };
    return std::move(*this);
  }
  Key initially_for(std::function<Json(Protocol)> by_protocol) && {
    initial = std::move(by_protocol);
    return std::move(*this);
  }
  Key needed() && {
    required = true;
    return std::move(*this);
  }
};

template <class T>
using Table = std::vector<Key<T>>;

template <class T>
std::vector<const KeyInfo*> infos(const Table<T>& table) {
  std::vector<const KeyInfo*> list;
  for (const Key<T>& key : table) list.push_back(&key);
  return list;
}

/// A default's JSON as the reader takes it.
Node node_from(const Json& value);

// Readers of single values: nullopt after an error was reported.
std::optional<std::string> read_string(Reader& reader, const Node& node, std::string_view expected);
std::optional<bool> read_boolean(Reader& reader, const Node& node);
std::optional<std::int64_t> read_integer(Reader& reader, const Node& node, std::int64_t min,
                                         std::int64_t max);
std::optional<double> read_number(Reader& reader, const Node& node, double min, double max);
std::optional<std::size_t> read_word(Reader& reader, const Node& node,
                                     std::span<const std::string> words);
std::optional<Rate> read_rate(Reader& reader, const Node& node);
bool expect_object(Reader& reader, const Node& node, bool or_off);
bool expect_list(Reader& reader, const Node& node, std::string_view example, std::size_t max);
void report_unknown_keys(Reader& reader, const Node& object,
                         const std::vector<const KeyInfo*>& known);
void report_missing(Reader& reader, const Node& object, const KeyInfo& key);
std::vector<Network> read_networks(Reader& reader, const Node& node);

struct DurationRange {
  std::chrono::milliseconds min;
  std::chrono::milliseconds max = kDurationMax;
  bool zero = false;           ///< 0 is accepted, too, also as a bare number
  bool whole_seconds = false;  ///< the kernel counts seconds
};
std::optional<std::chrono::milliseconds> read_duration(Reader& reader, const Node& node,
                                                       const DurationRange& range);

/// "off" among the values an object key takes.
inline bool is_off(const Node& node) {
  return node.kind == Node::Kind::string && node.text == "off";
}

template <class T>
void read_key(Reader& reader, const Node& object, const Key<T>& key, T& out) {
  const auto take_default = [&] {
    const Json value = key.initial ? key.initial(reader.protocol) : Json();
    if (value.is_null()) return;
    Reader::Defaults scope(reader);
    key.read(reader, node_from(value), out);
  };
  const Node* value = object.find(key.name);
  if (value == nullptr) {
    if (key.required)
      report_missing(reader, object, key);
    else
      take_default();
    return;
  }
  Reader::Scope scope(reader, key.name);
  const std::size_t before = reader.problems().error_count();
  key.read(reader, *value, out);
  const bool bad = reader.problems().error_count() != before;
  if (bad && key.leaf) take_default();
}

/// `node` is an object.
template <class T>
void read_members(Reader& reader, const Node& node, const Table<T>& table, T& out) {
  if (!node.members.empty()) report_unknown_keys(reader, node, infos(table));
  for (const Key<T>& key : table) read_key(reader, node, key, out);
}

template <class T>
Json print_members(const Printer& printer, const Table<T>& table, const T& value) {
  Json object = Json::object();
  for (const Key<T>& key : table) {
    Json member = key.print(printer, value);
    if (!member.is_discarded()) object[key.name] = std::move(member);
  }
  return object;
}

// Makers of keys, one a kind of value.

template <class T>
Key<T> make_key(std::string name, Json schema, std::string doc) {
  Key<T> key;
  key.name = std::move(name);
  key.schema = std::move(schema);
  key.doc = std::move(doc);
  return key;
}

template <class T>
Key<T> boolean(std::string name, bool T::*member, std::string doc) {
  Key<T> key = make_key<T>(std::move(name), {{"type", "boolean"}}, std::move(doc));
  key.read = [member](Reader& reader, const Node& node, T& out) {
    if (const auto value = read_boolean(reader, node)) out.*member = *value;
  };
  key.print = [member](const Printer&, const T& value) { return Json(value.*member); };
  return key;
}

template <class T, class Integer>
Key<T> integer(std::string name, Integer T::*member, std::int64_t min, std::int64_t max,
               std::string doc) {
  Key<T> key = make_key<T>(
      std::move(name), {{"type", "integer"}, {"minimum", min}, {"maximum", max}}, std::move(doc));
  key.read = [member, min, max](Reader& reader, const Node& node, T& out) {
    if (const auto value = read_integer(reader, node, min, max))
      out.*member = static_cast<Integer>(*value);
  };
  key.print = [member](const Printer&, const T& value) { return Json(value.*member); };
  return key;
}

template <class T>
Key<T> number(std::string name, double T::*member, double min, double max, std::string doc) {
  Key<T> key = make_key<T>(
      std::move(name), {{"type", "number"}, {"minimum", min}, {"maximum", max}}, std::move(doc));
  key.read = [member, min, max](Reader& reader, const Node& node, T& out) {
    if (const auto value = read_number(reader, node, min, max)) out.*member = *value;
  };
  key.print = [member](const Printer&, const T& value) { return Json(value.*member); };
  return key;
}

/// What a text must look like beyond being a string; `why` completes `"...": `.
struct TextRule {
  std::function<bool(std::string_view)> accepts;
  std::string why;
  std::string pattern;  ///< the same for the schema; empty: none
};

template <class T>
Key<T> text(std::string name, std::string T::*member, TextRule rule, std::string doc) {
  Json schema = {{"type", "string"}};
  if (!rule.pattern.empty()) schema["pattern"] = rule.pattern;
  Key<T> key = make_key<T>(std::move(name), std::move(schema), std::move(doc));
  key.read = [member, rule = std::move(rule)](Reader& reader, const Node& node, T& out) {
    const auto value = read_string(reader, node, "a string");
    if (!value) return;
    if (rule.accepts && !rule.accepts(*value))
      return reader.error(node, fmt::format("{}: {}", quote(*value), rule.why));
    out.*member = *value;
  };
  key.print = [member](const Printer&, const T& value) { return Json(value.*member); };
  return key;
}

template <class E>
struct Word {
  std::string text;
  E value;
};

/// The names of an enumeration, in its order.
template <class E, std::size_t N>
std::vector<Word<E>> words_of(const std::array<std::string_view, N>& names) {
  std::vector<Word<E>> words;
  for (std::size_t i = 0; i < N; ++i) words.push_back({std::string(names[i]), static_cast<E>(i)});
  return words;
}

template <class T, class E>
Key<T> word(std::string name, E T::*member, std::vector<Word<E>> choices, std::string doc) {
  Key<T> key = make_key<T>(std::move(name), Json::object(), std::move(doc));
  for (const Word<E>& choice : choices) key.words.push_back(choice.text);
  key.schema["enum"] = key.words;
  key.read = [member, choices, words = key.words](Reader& reader, const Node& node, T& out) {
    const auto index = read_word(reader, node, words);
    if (index) out.*member = choices[*index].value;
  };
  key.print = [member, choices](const Printer&, const T& value) {
    for (const Word<E>& choice : choices) {
      if (choice.value == value.*member) return Json(choice.text);
    }
    return not_printed();
  };
  return key;
}

Json duration_schema(const DurationRange& range);

template <class T>
Key<T> duration(std::string name, std::chrono::milliseconds T::*member, DurationRange range,
                std::string doc) {
  Key<T> key = make_key<T>(std::move(name), duration_schema(range), std::move(doc));
  key.read = [member, range](Reader& reader, const Node& node, T& out) {
    if (const auto value = read_duration(reader, node, range)) out.*member = *value;
  };
  key.print = [member](const Printer&, const T& value) {
    return Json(format_duration(value.*member));
  };
  return key;
}

Json rate_schema();

template <class T>
Key<T> rate(std::string name, Rate T::*member, std::string doc) {
  Key<T> key = make_key<T>(std::move(name), rate_schema(), std::move(doc));
  key.read = [member](Reader& reader, const Node& node, T& out) {
    if (const auto value = read_rate(reader, node)) out.*member = *value;
  };
  key.print = [member](const Printer&, const T& value) { return Json(format_rate(value.*member)); };
  return key;
}

template <class T>
Key<T> networks(std::string name, std::vector<Network> T::*member, std::string doc) {
  Key<T> key = make_key<T>(std::move(name), {{"type", "array"}, {"items", {{"type", "string"}}}},
                           std::move(doc));
  key.read = [member](Reader& reader, const Node& node, T& out) {
    out.*member = read_networks(reader, node);
  };
  key.print = [member](const Printer&, const T& value) {
    Json list = Json::array();
    for (const Network& network : value.*member) list.push_back(network.text());
    return list;
  };
  return std::move(key).initially(Json::array());
}

/// An object that is always there: absent means all its defaults.
template <class T, class U>
Key<T> object(std::string name, std::function<U&(T&)> part, const Table<U>& (*table)(),
              std::string definition, std::string doc) {
  Key<T> key =
      make_key<T>(std::move(name), {{"$ref", "#/definitions/" + definition}}, std::move(doc));
  key.leaf = false;
  key.definition = std::move(definition);
  key.nested = [table] { return infos(table()); };
  key.read = [part, table](Reader& reader, const Node& node, T& out) {
    static const Node empty = node_from(Json::object());
    read_members(reader, expect_object(reader, node, false) ? node : empty, table(), part(out));
  };
  key.print = [part, table](const Printer& printer, const T& value) {
    T copy = value;
    return print_members(printer, table(), part(copy));
  };
  return std::move(key).initially(Json::object());
}

/// An object or "off". `part` switches it on and hands it out; an untouched T has it off.
template <class T, class U>
Key<T> object_or_off(std::string name, std::function<U&(T&)> part, std::function<bool(const T&)> on,
                     std::function<void(T&)> switch_off, const Table<U>& (*table)(),
                     std::string definition, std::string doc) {
  Key<T> key = object<T, U>(std::move(name), part, table, std::move(definition), std::move(doc));
  key.schema = {{"anyOf", Json::array({key.schema, Json{{"const", "off"}}})}};
  key.read = [switch_off, read_on = key.read](Reader& reader, const Node& node, T& out) {
    if (is_off(node)) return switch_off(out);
    if (expect_object(reader, node, true))
      read_on(reader, node, out);
    else
      switch_off(out);
  };
  key.print = [on, print_on = key.print](const Printer& printer, const T& value) {
    return on(value) ? print_on(printer, value) : Json("off");
  };
  return key;
}

/// A list of objects. `before` prepares the reader for one element.
template <class T, class U>
Key<T> objects(std::string name, std::vector<U> T::*member, std::size_t max,
               const Table<U>& (*table)(),
               std::function<void(Reader&, const Node&, std::size_t)> before,
               std::string definition, std::string doc) {
  Key<T> key = make_key<T>(std::move(name),
                           {{"type", "array"},
                            {"minItems", 1},
                            {"maxItems", max},
                            {"items", {{"$ref", "#/definitions/" + definition}}}},
                           std::move(doc));
  key.leaf = false;
  key.definition = std::move(definition);
  key.nested = [table] { return infos(table()); };
  key.read = [member, max, table, before](Reader& reader, const Node& node, T& out) {
    if (!expect_list(reader, node, "[ { ... } ]", max)) return;
    if (node.items.empty()) return reader.error(node, "the list is empty; at least one is needed");
    for (std::size_t i = 0; i < node.items.size() && i < max; ++i) {
      Reader::Scope scope(reader, i);
      (out.*member).emplace_back();
      if (!expect_object(reader, node.items[i], false)) continue;
      if (before) before(reader, node.items[i], i);
      read_members(reader, node.items[i], table(), (out.*member).back());
    }
  };
  key.print = [member, table](const Printer& printer, const T& value) {
    Json list = Json::array();
    for (const U& one : value.*member) list.push_back(print_members(printer, table(), one));
    return list;
  };
  return std::move(key).needed();
}

// The tables (tables.cc), the file's root first.
const Table<Config>& config_keys();
const Table<Service>& service_keys();
const Table<Pool>& pool_keys();
const Table<Pair>& pair_keys();  // tables_pair.cc

inline constexpr std::size_t kServicesMax = 1024;
inline constexpr std::size_t kPoolsMax = 1024;
inline constexpr std::size_t kBackendsMax = 1024;  ///< in one pool
inline constexpr std::size_t kListenMax = 256;
inline constexpr std::size_t kTiersMax = 256;
inline constexpr std::size_t kNetworksMax = 65536;  ///< in one list

inline constexpr std::size_t kVrrpMax = 32;
inline constexpr std::size_t kVirtualAddressesMax = 256;  ///< of one VRRP instance

/// Letters, digits, `.` `_` `-`, at most 64: names of services, pools and backends appear in
/// commands, metric labels and log lines.
bool is_name(std::string_view text);
inline const TextRule kNameRule{is_name, "a name has letters, digits, '.', '_' and '-', 64 at most",
                                "^[A-Za-z0-9._-]{1,64}$"};

}  // namespace poise::config
