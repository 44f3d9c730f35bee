#include "command/draft.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "config/json_text.h"

namespace poise {

using config::json_text;

Members::Member& Members::at(const std::string& key) {
  const auto found = std::find_if(members_.begin(), members_.end(),
                                  [&key](const Member& each) { return each.key == key; });
  if (found != members_.end()) return *found;
  return members_.emplace_back(Member{key, {}, {}});
}

void Members::set(std::string key, std::string json) {
  at(key).json = std::move(json);
}

void Members::set_text(std::string key, std::string_view text) {
  set(std::move(key), json_text(text));
}

void Members::set_in(const std::string& object, std::string key, std::string json) {
  auto& inner = at(object).inner;
  const auto found = std::find_if(inner.begin(), inner.end(),
                                  [&key](const auto& each) { return each.first == key; });
  if (found != inner.end())
    found->second = std::move(json);
  else
    inner.emplace_back(std::move(key), std::move(json));
}

bool Members::has(std::string_view key) const {
  return std::any_of(members_.begin(), members_.end(),
                     [key](const Member& each) { return each.key == key; });
}

std::string Members::inside() const {
  std::vector<std::string> out;
  for (const Member& each : members_) {
    std::string value = each.json;
    if (!each.inner.empty()) {
      std::vector<std::string> inner;
      for (const auto& [key, json] : each.inner)
        inner.push_back(fmt::format("{}: {}", json_text(key), json));
      value = fmt::format("{{ {} }}", fmt::join(inner, ", "));
    }
    out.push_back(fmt::format("{}: {}", json_text(each.key), value));
  }
  return fmt::format("{}", fmt::join(out, ", "));
}

std::string Members::text() const {
  return empty() ? "{}" : fmt::format("{{ {} }}", inside());
}

std::string Draft::text() const {
  std::string out = "{\n  \"version\": 1,\n";
  if (!top.empty()) out += fmt::format("  {},\n", top.inside());
  std::vector<std::string> lines;
  for (const Members& each : services) lines.push_back("    " + each.text());
  out += fmt::format("  \"services\": [\n{}\n  ],\n", fmt::join(lines, ",\n"));
  lines.clear();
  for (const Pool& pool : pools) {
    std::vector<std::string> backends;
    for (const Members& each : pool.backends) backends.push_back("        " + each.text());
    lines.push_back(fmt::format("    {{ {},\n      \"backends\": [\n{}\n      ] }}",
                                pool.keys.inside(), fmt::join(backends, ",\n")));
  }
  return out + fmt::format("  \"pools\": [\n{}\n  ]\n}}\n", fmt::join(lines, ",\n"));
}

std::string_view protocol_of_port(unsigned port) {
  switch (port) {
    case 24:
      return "lmtp";
    case 25:
      return "smtp";
    case 110:
      return "pop3";
    case 143:
      return "imap";
    case 465:
      return "smtps";
    case 587:
      return "submission";
    case 993:
      return "imaps";
    case 995:
      return "pop3s";
    case 4190:
      return "managesieve";
    default:
      return "tcp";
  }
}

std::string fresh_name(std::string_view text, std::vector<std::string>& taken) {
  constexpr std::size_t kBytesMax = 60;  // leaves room for a number
  std::string name;
  for (const char each : text.substr(0, kBytesMax)) {
    const bool good = std::isalnum(static_cast<unsigned char>(each)) != 0 || each == '.' ||
                      each == '_' || each == '-';
    name += good ? each : '-';
  }
  if (name.empty()) name = "unnamed";
  std::string fresh = name;
  for (unsigned number = 2; std::find(taken.begin(), taken.end(), fresh) != taken.end(); ++number)
    fresh = fmt::format("{}-{}", name, number);
  taken.push_back(fresh);
  return fresh;
}

}  // namespace poise
