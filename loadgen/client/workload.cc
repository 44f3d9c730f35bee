#include "loadgen/client/workload.h"

#include <fmt/format.h>

#include <functional>
#include <map>
#include <string>

#include "config/document.h"
#include "config/nearest.h"
#include "config/problem.h"
#include "loadgen/client/targets.h"
#include "loadgen/text/times.h"

namespace poise::loadgen {
namespace {

using config::Node;
using Sequences = std::map<std::string, std::vector<std::string>>;

/// Where in the file we are, everything wrong so far; and the values of the kinds that the file
/// has.
class Reader {
 public:
  using Key = std::function<void(const Node&)>;
  using Keys = std::map<std::string, Key>;

  explicit Reader(config::Problems& problems) : problems_(problems) {}

  void wrong(const Node& node, std::string_view what) {
    problems_.error(node.begin, path_, std::string(what));
  }
  void expected(const Node& node, std::string_view what) {
    wrong(node, fmt::format("expected {}, got {}", what, node.describe()));
  }

  /// Calls `read` with the path led into `part` meanwhile.
  template <class Read>
  void within(std::string_view part, Read read) {
    const std::size_t before = path_.size();
    path_ += '/';
    path_ += part;
    read();
    path_.resize(before);
  }

  /// Every member goes to its key; an unknown one is answered with the nearest.
  void object(const Node& node, const Keys& keys) {
    if (node.kind != Node::Kind::object) return expected(node, "an object, { ... }");
    for (const config::Member& member : node.members) {
      within(member.key, [&] {
        const auto key = keys.find(member.key);
        if (member.first_begin)
          problems_.error(
              member.begin, path_,
              fmt::format("duplicate key {}; it is already on line {}", config::quote(member.key),
                          problems_.line_of(*member.first_begin)));
        else if (key == keys.end())
          problems_.error(member.begin, path_, unknown("key", member.key, keys));
        else
          key->second(member.value);
      });
    }
  }

  Key text(std::string& out) {
    return [this, &out](const Node& node) {
      if (node.kind != Node::Kind::string) return expected(node, "a string");
      out = node.text;
      if (out.find_first_of("\r\n") != std::string::npos)
        wrong(node, "a line break cannot be sent");
    };
  }
  /// A string that stands between < and > or alone: no blanks.
  Key word(std::string& out) {
    return [this, &out](const Node& node) {
      if (node.kind != Node::Kind::string || node.text.empty() ||
          node.text.find_first_of(" \t\r\n<>") != std::string::npos)
        return expected(node, "one word");
      out = node.text;
    };
  }
  template <class Number>
  Key count(Number& out, std::int64_t from, std::int64_t to) {
    return [this, &out, from, to](const Node& node) {
      if (node.kind != Node::Kind::integer || node.integer < from || node.integer > to)
        return expected(node, fmt::format("a whole number, {} to {}", from, to));
      out = static_cast<Number>(node.integer);
    };
  }
  Key number(double& out) {
    return [this, &out](const Node& node) {
      if (!is_number(node) || !(node.real > 0) || node.real > 1e9)
        return expected(node, "a number above 0");
      out = node.real;
    };
  }
  Key share(double& out) {
    return [this, &out](const Node& node) {
      if (!is_number(node) || !(node.real >= 0) || node.real > 100)
        return expected(node, "a percentage, 0 to 100");
      out = node.real / 100;
    };
  }
  Key flag(bool& out) {
    return [this, &out](const Node& node) {
      if (node.kind != Node::Kind::boolean) return expected(node, "true or false");
      out = node.boolean;
    };
  }
  Key time(Nanos& out) {
    return [this, &out](const Node& node) {
      if (node.kind != Node::Kind::string) return expected(node, "a time in quotes like \"30s\"");
      const Result<Nanos> parsed = parse_time(node.text);
      if (!parsed) return wrong(node, parsed.error().text());
      out = *parsed;
    };
  }
  /// Each string of a list to `add`, which may refuse it.
  Key list(std::function<Result<void>(const std::string&)> add) {
    return [this, add](const Node& node) {
      if (node.kind != Node::Kind::array) return expected(node, "a list of strings, [ ... ]");
      for (std::size_t at = 0; at < node.items.size(); ++at) {
        const Node& item = node.items[at];
        within(fmt::to_string(at), [&] {
          if (item.kind != Node::Kind::string) return expected(item, "a string");
          if (const Result<void> added = add(item.text); !added) wrong(item, added.error().text());
        });
      }
    };
  }
  Key targets(std::vector<Target>& out) {
    return [this, &out](const Node& node) {
      out.clear();
      list([&out](const std::string& text) { return add_target(text, out); })(node);
    };
  }

 private:
  static bool is_number(const Node& node) {
    return node.kind == Node::Kind::integer || node.kind == Node::Kind::real;
  }
  static std::string unknown(std::string_view what, std::string_view word, const Keys& keys) {
    std::vector<std::string> names;
    for (const auto& entry : keys) names.push_back(entry.first);
    return fmt::format("unknown {} {}{} (known: {})", what, config::quote(word),
                       config::did_you_mean(word, names), config::enumerate(names));
  }

  config::Problems& problems_;
  std::string path_;
};

/// Lists of commands may name sequences, which hold commands only.
void read_commands(Reader& reader, const Node& node, const Sequences& sequences, Script& script) {
  script.actions.clear();
  reader.list([&](const std::string& text) -> Result<void> {
    const auto named = sequences.find(text);
    if (named == sequences.end()) return add_action(script.protocol, text, script.actions);
    for (const std::string& one : named->second) {
      if (const Result<void> added = add_action(script.protocol, one, script.actions); !added)
        return added;
    }
    return {};
  })(node);
  if (const Result<void> checked = check_actions(script.actions); !checked)
    reader.wrong(node, checked.error().what);
}

Block read_block(Reader& reader, const Node& node, const std::string& name,
                 const Sequences& sequences) {
  Block block;
  Protocol protocol = Protocol::smtp;
  // What the protocol decides comes first, wherever it stands in the file; `keys` complain of it.
  if (const Node* const said = node.find("protocol"); said && said->kind == Node::Kind::string)
    if (const Result<Protocol> parsed = parse_protocol(said->text)) protocol = *parsed;
  block.script = usual_script(protocol);
  block.script.name = name;
  if (!is_smtp(protocol)) block.patience.greeting = 30 * kSecond;
  Script& script = block.script;
  const Reader::Keys keys{
      {"protocol",
       [&](const Node& value) {
         if (value.kind != Node::Kind::string) return reader.expected(value, "a string");
         if (const Result<Protocol> parsed = parse_protocol(value.text); !parsed)
           reader.wrong(value, parsed.error().what);
       }},
      {"targets", reader.targets(block.targets)},
      {"think", reader.time(block.think)},
      {"tls",
       [&](const Node& value) {
         for (std::size_t at = 0; at < kTlsNames.size(); ++at) {
           if (value.kind != Node::Kind::string || value.text != kTlsNames[at]) continue;
           script.tls = static_cast<Tls>(at);
           if (is_implicit_tls(protocol) && script.tls != Tls::implicit)
             reader.wrong(value, fmt::format("{} is TLS from the first byte", name_of(protocol)));
           return;
         }
         reader.expected(value, "\"none\", \"starttls\" or \"implicit\"");
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
       [&](const Node& value) {
         if (value.kind != Node::Kind::string)
           return reader.expected(value, "a size in quotes like \"4KiB\"");
         const Result<std::vector<SizeClass>> sizes = parse_sizes(value.text);
         if (!sizes) return reader.wrong(value, sizes.error().text());
         block.sizes = *sizes;
       }},
      {"commands", [&](const Node& value) { read_commands(reader, value, sequences, script); }},
      {"timeout_connect", reader.time(block.patience.connect)},
      {"timeout_greeting", reader.time(block.patience.greeting)},
      {"timeout", reader.time(block.patience.session)},
  };
  reader.object(node, keys);
  return block;
}

/// Members to `read`, name and value, each from within its path.
template <class Read>
void each_member(Reader& reader, const Node& node, Read read) {
  if (node.kind != Node::Kind::object) return reader.expected(node, "an object, { ... }");
  for (const config::Member& member : node.members) {
    reader.within(member.key, [&] {
      if (member.first_begin)
        reader.wrong(member.value, fmt::format("{} is given twice", config::quote(member.key)));
      else
        read(member.key, member.value);
    });
  }
}

Sequences read_sequences(Reader& reader, const Node& root) {
  Sequences sequences;
  const Node* const node = root.find("sequences");
  if (!node) return sequences;
  reader.within("sequences", [&] {
    each_member(reader, *node, [&](const std::string& name, const Node& value) {
      std::vector<std::string>& commands = sequences[name];
      reader.list([&commands](const std::string& one) -> Result<void> {
        commands.push_back(one);
        return {};
      })(value);
    });
  });
  return sequences;
}

void read_root(Reader& reader, const Node& root, RunPlan& plan) {
  const Sequences sequences = read_sequences(reader, root);  // blocks may stand before them
  plan.blocks.clear();
  const auto nothing = [](const Node&) {};
  Pace& pace = plan.pace;
  const Reader::Keys keys{
      {"targets", reader.targets(plan.targets)},
      {"sources",
       reader.list([&plan](const std::string& one) { return add_sources(one, plan.sources); })},
      {"choose",
       [&](const Node& node) {
         if (node.kind != Node::Kind::string) return reader.expected(node, "a string");
         const Result<Choice> choice = parse_choice(node.text);
         if (!choice) return reader.wrong(node, choice.error().text());
         plan.choice.choice = *choice;
       }},
      {"first_only", reader.share(plan.choice.first_only)},
      {"dns_ttl", reader.time(plan.choice.ttl)},
      {"pace",
       [&](const Node& node) {
         reader.object(node, {{"clients", reader.count(pace.clients, 1, 1'000'000)},
                              {"rate", reader.number(pace.rate)},
                              {"sessions", reader.count(pace.sessions, 1, 1'000'000'000'000)},
                              {"duration", reader.time(pace.duration)},
                              {"max_concurrent", reader.count(pace.max_concurrent, 1, 1'000'000)}});
       }},
      {"retry",
       [&](const Node& node) {
         reader.object(node, {{"times", reader.count(plan.retry.times, 0, 1'000'000)},
                              {"after", reader.time(plan.retry.after)}});
       }},
      {"sequences", nothing},  // read already
      {"blocks",
       [&](const Node& node) {
         each_member(reader, node, [&](const std::string& name, const Node& block) {
           plan.blocks.push_back(read_block(reader, block, name, sequences));
         });
       }},
      {"mix", nothing},  // once all blocks are known
  };
  reader.object(root, keys);
  if (const Node* const mix = root.find("mix")) {
    Reader::Keys weights;
    for (Block& block : plan.blocks) {
      block.weight = 0;
      weights[block.script.name] = reader.number(block.weight);
    }
    reader.within("mix", [&] { reader.object(*mix, weights); });
    std::erase_if(plan.blocks, [](const Block& block) { return block.weight == 0; });
  }
}

}  // namespace

std::vector<std::string> read_workload(std::string_view text, const std::string& file,
                                       RunPlan& plan) {
  config::Problems problems(text, file);
  const config::Document document = config::parse_document(text);
  if (document.error) {
    problems.error(document.error->offset, "", document.error->message);
  } else {
    Reader reader(problems);
    read_root(reader, document.root, plan);
    if (problems.error_count() == 0 && plan.blocks.empty())
      reader.wrong(document.root,
                   "say what sessions do: {\"blocks\": {\"NAME\": {\"protocol\": ...}}}");
  }
  std::vector<std::string> lines;
  for (const config::Problem& problem : problems.errors()) lines.push_back(problem.text());
  return lines;
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
