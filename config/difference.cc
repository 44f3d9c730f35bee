#include "config/difference.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "config/keys.h"

namespace poise::config {
namespace {

/// Lists whose elements have names, and what one is called.
constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kNamed{
    {{"services", "service"},
     {"pools", "pool"},
     {"backends", "backend"},
     {"nodes", "node"},
     {"vrrp", "VRRP instance"}}};

class Differ {
 public:
  void object(const std::string& where, const std::string& key, const Json& before,
              const Json& after) {
    for (const auto& [name, value] : after.items())
      value_of(where, key, name, before.contains(name) ? before[name] : Json(), value);
    for (const auto& [name, value] : before.items())
      if (!after.contains(name)) value_of(where, key, name, value, Json());
  }

  std::vector<std::string> take() { return std::move(sentences_); }

 private:
  void value_of(const std::string& where, const std::string& outer, const std::string& name,
                const Json& before, const Json& after) {
    if (before == after) return;
    const std::string key = outer.empty() ? name : outer + "." + name;
    const auto named = std::find_if(kNamed.begin(), kNamed.end(),
                                    [&name](const auto& each) { return each.first == name; });
    if (named != kNamed.end() && before.is_array() && after.is_array())
      return list(where, std::string(named->second), before, after);
    if (before.is_object() && after.is_object()) return object(where, key, before, after);
    say(where, fmt::format("{}: {} -> {}", key, text(before), text(after)));
  }

  void list(const std::string& where, const std::string& kind, const Json& before,
            const Json& after) {
    std::vector<std::string> kept_before, kept_after;
    for (const Json& each : before) {
      if (find(after, name(each)) == nullptr)
        say(where, fmt::format("{} {} is removed{}", kind, name(each), detail(each)));
      else
        kept_before.push_back(name(each));
    }
    for (const Json& each : after) {
      const Json* old = find(before, name(each));
      if (old == nullptr) {
        say(where, fmt::format("{} {} is added{}", kind, name(each), detail(each)));
        continue;
      }
      kept_after.push_back(name(each));
      const std::string inner = fmt::format("{} {}", kind, name(each));
      object(where.empty() ? inner : where + ": " + inner, "", *old, each);
    }
    if (kept_before != kept_after) say(where, fmt::format("{}s are in another order", kind));
  }

  static std::string name(const Json& object) { return object.value("name", std::string("?")); }

  static const Json* find(const Json& list, const std::string& wanted) {
    const auto at = std::find_if(list.begin(), list.end(),
                                 [&wanted](const Json& each) { return name(each) == wanted; });
    return at != list.end() ? &*at : nullptr;
  }

  static std::string detail(const Json& object) {
    if (object.contains("address"))
      return fmt::format(" ({})", object["address"].get<std::string>());
    if (object.contains("listen")) return fmt::format(" (listen {})", object["listen"].dump());
    return {};
  }

  static std::string text(const Json& value) { return value.is_null() ? "unset" : value.dump(); }

  void say(const std::string& where, std::string what) {
    sentences_.push_back(where.empty() ? std::move(what) : where + ": " + what);
  }

  std::vector<std::string> sentences_;
};

Json printed(const Config& config) {
  return print_members(Printer{config.pools}, config_keys(), config);
}

}  // namespace

std::vector<std::string> differences(const Config& before, const Config& after) {
  Differ differ;
  differ.object("", "", printed(before), printed(after));
  return differ.take();
}

}  // namespace poise::config
