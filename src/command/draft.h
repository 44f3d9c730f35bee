#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// A configuration in the making: what the importers and balance's command line fill in. Pure.
namespace poise {

/// Members of an object in the order of writing; the values are JSON.
class Members {
 public:
  void set(std::string key, std::string json);
  void set_text(std::string key, std::string_view text);
  /// Of the object in `object`, which is made when it is new.
  void set_in(const std::string& object, std::string key, std::string json);

  [[nodiscard]] bool empty() const { return members_.empty(); }
  [[nodiscard]] bool has(std::string_view key) const;
  /// {"a": 1, "b": {"c": 2}} on one line.
  [[nodiscard]] std::string text() const;
  /// The same without braces.
  [[nodiscard]] std::string inside() const;

 private:
  struct Member {
    std::string key, json;
    std::vector<std::pair<std::string, std::string>> inner;  ///< not empty: in place of `json`
  };
  Member& at(const std::string& key);
  std::vector<Member> members_;
};

/// What stands in poise.json, as far as somebody has decided it; the rest is the file's defaults.
struct Draft {
  struct Pool {
    Members keys;
    std::vector<Members> backends;
  };
  Members top;  ///< beside version, services and pools
  std::vector<Members> services;
  std::vector<Pool> pools;

  /// As a file for people: a line for each service, pool and backend.
  [[nodiscard]] std::string text() const;
};

/// What is usually spoken on a port; tcp when nothing of ours is.
std::string_view protocol_of_port(unsigned port);

/// The text as a name of ours (letters, digits, `.` `_` `-`, at most 64), other than those in
/// `taken`, which it joins.
std::string fresh_name(std::string_view text, std::vector<std::string>& taken);

}  // namespace poise
