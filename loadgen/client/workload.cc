#include "loadgen/client/workload.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "loadgen/client/targets.h"
#include "loadgen/text/nearest.h"
#include "loadgen/text/times.h"

namespace poise::loadgen {
namespace {

using Json = nlohmann::ordered_json;
using Sequences = std::map<std::string, std::vector<std::string>>;

/// Everything wrong so far; and the values of the kinds that the file has.
class Reader {
 public:
  using Key = std::function<void(const Json&, const std::string& where)>;
  using Keys = std::map<std::string, Key>;

  void wrong(const std::string& where, std::string_view what) {
    problems_.push_back(fmt::format("{}: {}", where.empty() ? "/" : where, what));
  }

  /// Every member goes to its key; an unknown one is answered with the nearest.
  void object(const Json& json, const std::string& where, const Keys& keys) {
    if (!json.is_object()) return wrong(where, "expected an object, { ... }");
    for (const auto& [name, value] : json.items()) {
      const auto key = keys.find(name);
      if (key != keys.end()) {
        key->second(value, where + "/" + name);
        continue;
      }
      std::vector<std::string> names;
      for (const auto& entry : keys) names.push_back(entry.first);
      wrong(where + "/" + name, fmt::format("unknown key{}", suggest(name, names)));
    }
  }

  Key text(std::string& out) {
    return [this, &out](const Json& json, const std::string& where) {
      if (!json.is_string()) return wrong(where, "expected a string");
      out = json.get<std::string>();
      if (out.find_first_of("\r\n") != std::string::npos)
        wrong(where, "a line break cannot be sent");
    };
  }
  /// A string that stands between < and > or alone: no blanks.
  Key word(std::string& out) {
    return [this, &out](const Json& json, const std::string& where) {
      text(out)(json, where);
      if (out.empty() || out.find_first_of(" \t<>") != std::string::npos)
        wrong(where, "expected one word");
    };
  }
  template <class Number>
  Key count(Number& out, std::uint64_t from, std::uint64_t to) {
    return [this, &out, from, to](const Json& json, const std::string& where) {
      if (!json.is_number_integer() || json.get<std::int64_t>() < 0 ||
          json.get<std::uint64_t>() < from || json.get<std::uint64_t>() > to)
        return wrong(where, fmt::format("expected a whole number, {} to {}", from, to));
      out = json.get<Number>();
    };
  }
  Key number(double& out) {
    return [this, &out](const Json& json, const std::string& where) {
      if (!json.is_number() || !(json.get<double>() > 0) || json.get<double>() > 1e9)
        return wrong(where, "expected a number above 0");
      out = json.get<double>();
    };
  }
  Key share(double& out) {
    return [this, &out](const Json& json, const std::string& where) {
      if (!json.is_number() || !(json.get<double>() >= 0) || json.get<double>() > 100)
        return wrong(where, "expected a percentage, 0 to 100");
      out = json.get<double>() / 100;
    };
  }
  Key flag(bool& out) {
    return [this, &out](const Json& json, const std::string& where) {
      if (!json.is_boolean()) return wrong(where, "expected true or false");
      out = json.get<bool>();
    };
  }
  Key time(Nanos& out) {
    return [this, &out](const Json& json, const std::string& where) {
      if (!json.is_string()) return wrong(where, "expected a time in quotes: \"30s\"");
      const Result<Nanos> parsed = parse_time(json.get<std::string>());
      if (!parsed) return wrong(where, parsed.error().text());
      out = *parsed;
    };
  }
  /// Each string of a list to `add`, which may refuse it.
  Key list(std::function<Result<void>(const std::string&)> add) {
    return [this, add](const Json& json, const std::string& where) {
      if (!json.is_array()) return wrong(where, "expected a list of strings, [ ... ]");
      std::size_t at = 0;
      for (const Json& item : json) {
        const std::string here = fmt::format("{}/{}", where, at++);
        if (!item.is_string()) {
          wrong(here, "expected a string");
          continue;
        }
        if (const Result<void> added = add(item.get<std::string>()); !added)
          wrong(here, added.error().text());
      }
    };
  }
  Key targets(std::vector<Target>& out) {
    return [this, &out](const Json& json, const std::string& where) {
      out.clear();
      list([&out](const std::string& text) -> Result<void> {
        const Result<Target> target = parse_target(text);
        if (!target) return target.error();
        out.push_back(*target);
        return {};
      })(json, where);
    };
  }

  std::vector<std::string> problems_;
};

Result<void> parse_protocol(const std::string& name, Protocol& out) {
  std::vector<std::string> names;
  for (std::size_t at = 0; at < kProtocolNames.size(); ++at) {
    const auto protocol = static_cast<Protocol>(at);
    if (protocol == Protocol::tcp) continue;
    names.emplace_back(kProtocolNames[at]);
    if (name == kProtocolNames[at]) {
      out = protocol;
      return {};
    }
  }
  return Error{"", fmt::format("no such protocol{}", suggest(name, names))};
}

/// Lists of commands may name sequences, which hold commands only.
void read_commands(Reader& reader, const Json& json, const std::string& where,
                   const Sequences& sequences, Script& script) {
  script.actions.clear();
  reader.list([&](const std::string& text) -> Result<void> {
    const auto named = sequences.find(text);
    if (named == sequences.end()) return add_action(script.protocol, text, script.actions);
    for (const std::string& one : named->second) {
      if (const Result<void> added = add_action(script.protocol, one, script.actions); !added)
        return added;
    }
    return {};
  })(json, where);
  if (const Result<void> checked = check_actions(script.actions); !checked)
    reader.wrong(where, checked.error().what);
}

Block read_block(Reader& reader, const Json& json, const std::string& name,
                 const Sequences& sequences) {
  const std::string where = "/blocks/" + name;
  Block block;
  Protocol protocol = Protocol::smtp;
  // What the protocol decides comes first, wherever it stands in the file.
  if (json.is_object() && json.contains("protocol")) {
    if (!json["protocol"].is_string())
      reader.wrong(where + "/protocol", "expected a string");
    else if (const Result<void> parsed = parse_protocol(json["protocol"], protocol); !parsed)
      reader.wrong(where + "/protocol", parsed.error().what);
  }
  block.script = usual_script(protocol);
  block.script.name = name;
  if (!is_smtp(protocol)) block.patience.greeting = 30 * kSecond;
  Script& script = block.script;
  const auto nothing = [](const Json&, const std::string&) {};
  const Reader::Keys keys{
      {"protocol", nothing},
      {"targets", reader.targets(block.targets)},
      {"think", reader.time(block.think)},
      {"tls",
       [&](const Json& value, const std::string& here) {
         for (std::size_t at = 0; at < kTlsNames.size(); ++at) {
           if (value == kTlsNames[at]) {
             script.tls = static_cast<Tls>(at);
             if (is_implicit_tls(protocol) && script.tls != Tls::implicit)
               reader.wrong(here, fmt::format("{} is TLS from the first byte", name_of(protocol)));
             return;
           }
         }
         reader.wrong(here, "expected \"none\", \"starttls\" or \"implicit\"");
       }},
      {"tls_name", reader.word(script.tls_name)},
      {"tls_verify", reader.flag(script.tls_verify)},
      {"connect_only", reader.flag(script.connect_only)},
      {"auth", reader.flag(script.auth)},
      {"helo", reader.word(script.helo)},
      {"from", reader.word(script.sender)},
      {"to", reader.word(script.recipient)},
      {"recipients", reader.count(script.recipients, 1, 10'000)},
      {"pipelining", reader.flag(script.pipelining)},
      {"user", reader.word(script.user)},
      {"users", reader.count(script.users, 1, 1'000'000)},
      {"password", reader.text(script.password)},
      {"size",
       [&](const Json& value, const std::string& here) {
         if (!value.is_string()) return reader.wrong(here, "expected a size in quotes: \"4KiB\"");
         const Result<std::vector<SizeClass>> sizes = parse_sizes(value.get<std::string>());
         if (!sizes) return reader.wrong(here, sizes.error().text());
         block.sizes = *sizes;
       }},
      {"commands",
       [&](const Json& value, const std::string& here) {
         read_commands(reader, value, here, sequences, script);
       }},
      {"timeout_connect", reader.time(block.patience.connect)},
      {"timeout_greeting", reader.time(block.patience.greeting)},
      {"timeout", reader.time(block.patience.session)},
  };
  reader.object(json, where, keys);
  return block;
}

/// A key that is given twice would silently be one of the two.
nlohmann::ordered_json parse_text(std::string_view text, Reader& reader) {
  std::vector<std::set<std::string>> open;
  const auto notice = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key && !open.back().insert(value.get<std::string>()).second)
      reader.wrong("", fmt::format("the key \"{}\" is given twice", value.get<std::string>()));
    return true;
  };
  try {
    return Json::parse(text, notice, true, true);
  } catch (const Json::parse_error& error) {
    std::string_view what = error.what();  // "[json.exception...] parse error at line 2, ..."
    if (const std::size_t at = what.find("] "); at != std::string_view::npos)
      what.remove_prefix(at + 2);
    reader.wrong("", what);
    return {};
  }
}

}  // namespace

std::vector<std::string> read_workload(std::string_view text, RunPlan& plan) {
  Reader reader;
  const Json json = parse_text(text, reader);
  if (!reader.problems_.empty()) return reader.problems_;
  Sequences sequences;
  if (json.is_object() && json.contains("sequences") && json["sequences"].is_object()) {
    for (const auto& [name, value] : json["sequences"].items()) {
      std::vector<std::string>& commands = sequences[name];
      reader.list([&commands](const std::string& one) -> Result<void> {
        commands.push_back(one);
        return {};
      })(value, "/sequences/" + name);
    }
  }
  plan.blocks.clear();
  const auto nothing = [](const Json&, const std::string&) {};
  Pace& pace = plan.pace;
  const Reader::Keys keys{
      {"targets", reader.targets(plan.targets)},
      {"sources",
       reader.list([&plan](const std::string& one) { return add_sources(one, plan.sources); })},
      {"choose",
       [&](const Json& value, const std::string& where) {
         const Result<Choice> choice =
             parse_choice(value.is_string() ? value.get<std::string>() : value.dump());
         if (!choice) return reader.wrong(where, choice.error().text());
         plan.choice.choice = *choice;
       }},
      {"first_only", reader.share(plan.choice.first_only)},
      {"dns_ttl", reader.time(plan.choice.ttl)},
      {"pace",
       [&](const Json& value, const std::string& where) {
         reader.object(value, where,
                       {{"clients", reader.count(pace.clients, 1, 1'000'000)},
                        {"rate", reader.number(pace.rate)},
                        {"sessions", reader.count(pace.sessions, 1, 1'000'000'000'000)},
                        {"duration", reader.time(pace.duration)},
                        {"max_concurrent", reader.count(pace.max_concurrent, 1, 1'000'000)}});
       }},
      {"retry",
       [&](const Json& value, const std::string& where) {
         reader.object(value, where,
                       {{"times", reader.count(plan.retry.times, 0, 1'000'000)},
                        {"after", reader.time(plan.retry.after)}});
       }},
      {"sequences",
       [&](const Json& value, const std::string& where) {
         if (!value.is_object()) reader.wrong(where, "expected an object, { ... }");
       }},
      {"blocks",
       [&](const Json& value, const std::string& where) {
         if (!value.is_object()) return reader.wrong(where, "expected an object, { ... }");
         for (const auto& [name, block] : value.items())
           plan.blocks.push_back(read_block(reader, block, name, sequences));
       }},
      {"mix", nothing},
  };
  reader.object(json, "", keys);
  if (json.is_object() && json.contains("mix")) {
    Reader::Keys weights;
    for (Block& block : plan.blocks) {
      block.weight = 0;
      weights[block.script.name] = reader.number(block.weight);
    }
    reader.object(json["mix"], "/mix", weights);
    std::erase_if(plan.blocks, [](const Block& block) { return block.weight == 0; });
  }
  if (reader.problems_.empty() && plan.blocks.empty())
    reader.wrong("/blocks", "say what sessions do: {\"blocks\": {\"NAME\": {\"protocol\": ...}}}");
  return reader.problems_;
}

Result<void> check_plan(const RunPlan& plan) {
  for (const Block& block : plan.blocks) {
    const std::vector<Target>& targets = block.targets.empty() ? plan.targets : block.targets;
    if (targets.empty())
      return Error{block.script.name, "no target: --target ADDRESS:PORT, or in the workload"};
    if (plan.choice.choice == Choice::single && targets.size() > 1)
      return Error{"--choose single", fmt::format("takes one target, not {}", targets.size())};
    if (const Result<void> checked = check_sources(plan.sources, targets); !checked) return checked;
  }
  if (plan.pace.sessions == 0 && plan.pace.duration <= 0)
    return Error{"", "say when to end: --sessions N or --duration TIME"};
  return {};
}

}  // namespace poise::loadgen
