#include "config/variables.h"

#include <fmt/format.h>

#include <map>
#include <utility>
#include <vector>

#include "config/keys.h"
#include "config/nearest.h"

namespace poise::config {
namespace {

std::string text_of(const Node& object, std::string_view key) {
  const Node* const node = object.find(key);
  return node != nullptr && node->kind == Node::Kind::string ? node->text : std::string();
}

class Substitution {
 public:
  Substitution(const Node& self, Problems& problems) : problems_(problems) {
    values_["node"] = text_of(self, "name");
    if (const Node* given = self.find("variables"))
      for (const Member& each : given->members) values_[each.key] = each.value.text;
  }

  void apply(Node& node, const std::string& pointer) {
    if (node.kind == Node::Kind::string) replace(node, pointer);
    for (std::size_t i = 0; i < node.items.size(); ++i)
      apply(node.items[i], fmt::format("{}/{}", pointer, i));
    for (Member& each : node.members)
      if (each.key != "variables")
        apply(each.value, pointer + "/" + (is_name(each.key) ? each.key : "?"));
  }

 private:
  void replace(Node& node, const std::string& pointer) {
    std::string out;
    std::string_view rest = node.text;
    for (;;) {
      const std::size_t begin = rest.find("${");
      const std::size_t end = begin == rest.npos ? begin : rest.find('}', begin);
      out += rest.substr(0, end == rest.npos ? rest.npos : begin);
      if (end == rest.npos) break;
      const std::string name(rest.substr(begin + 2, end - begin - 2));
      const auto value = values_.find(name);
      if (value == values_.end()) return unknown(node, pointer, name);
      out += value->second;
      rest.remove_prefix(end + 1);
    }
    node.text = std::move(out);
  }

  void unknown(const Node& node, const std::string& pointer, const std::string& name) {
    std::vector<std::string> known;
    for (const auto& [key, value] : values_) known.push_back(key);
    problems_.error(
        node.begin, pointer,
        fmt::format("no variable {} of node {}{} (known: {})", quote(name), quote(values_["node"]),
                    did_you_mean(name, known), enumerate(known)));
  }

  std::map<std::string, std::string> values_;
  Problems& problems_;
};

const std::vector<Node>* nodes_of(const Node& root) {
  const Node* const nodes = find_at(root, "/pair/nodes");
  return nodes != nullptr && nodes->kind == Node::Kind::array ? &nodes->items : nullptr;
}

}  // namespace

std::size_t own_node(const Node& root, std::string_view name) {
  const std::vector<Node>* const nodes = nodes_of(root);
  if (nodes == nullptr) return 0;
  for (const std::string_view wanted : {name, name.substr(0, name.find('.'))})
    for (std::size_t i = 0; i < nodes->size(); ++i)
      if (text_of((*nodes)[i], "name") == wanted) return i;
  return nodes->size();
}

void substitute_variables(Node& root, std::size_t own, Problems& problems) {
  const std::vector<Node>* const nodes = nodes_of(root);
  if (nodes == nullptr || own >= nodes->size()) return;
  Substitution((*nodes)[own], problems).apply(root, "");
}

}  // namespace poise::config
