#include <algorithm>

#include "config/keys.h"
#include "poise/number.h"

namespace poise::config {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using namespace std::chrono_literals;

/// IFNAMSIZ with its NUL is 16; the kernel refuses '/' and spaces.
bool is_interface(std::string_view text) {
  return !text.empty() && text.size() <= 15 &&
         text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@:") ==
             std::string_view::npos;
}

Key<PairNode> node_address_key() {
  Key<PairNode> key =
      make_key<PairNode>("address", {{"type", "string"}, {"pattern", ":[0-9]{1,5}$"}},
                         "address and port of the link between the boxes, like \"192.0.2.2:9848\"");
  key.read = [](Reader& reader, const Node& node, PairNode& out) {
    const auto value = read_string(reader, node, "an address and a port");
    if (!value) return;
    const Result<Endpoint> endpoint = parse_endpoint(*value, 9848, false);
    if (!endpoint)
      return reader.error(node, fmt::format("{}: {}", quote(*value), endpoint.error().what));
    if (!endpoint->literal || endpoint->literal->is_any())
      return reader.error(node, fmt::format("{}: not the address of one machine", quote(*value)));
    out.address = *endpoint->literal;
  };
  key.print = [](const Printer&, const PairNode& node) { return Json(node.address.text()); };
  return std::move(key).needed();
}

Key<PairNode> vrrp_address_key() {
  Key<PairNode> key = make_key<PairNode>(
      "vrrp_address",
      {{"anyOf", Json::array({Json{{"type", "string"}}, Json{{"type", "array"},
                                                             {"minItems", 1},
                                                             {"maxItems", 2},
                                                             {"items", {{"type", "string"}}}}})}},
      "the address that VRRP is spoken from, on the interface that gets the virtual addresses, or "
      "a list of two, one of each family; absent: that of \"address\"");
  key.read = [](Reader& reader, const Node& node, PairNode& out) {
    const auto add = [&](const Node& item) {
      const auto value = read_string(reader, item, "an address");
      if (!value || (value->empty() && &item == &node)) return;
      const auto address = Address::from_ip(*value);
      if (!address || address->is_any())
        return reader.error(item,
                            fmt::format("{}: expected an address, without a port", quote(*value)));
      if (out.vrrp_address(address->family) != nullptr)
        return reader.error(item, fmt::format("{}: a second address of that family; VRRP is spoken "
                                              "from one",
                                              quote(*value)));
      out.vrrp_addresses.push_back(*address);
    };
    if (node.kind != Node::Kind::array) return add(node);
    if (!expect_list(reader, node, "", 2)) return;
    if (node.items.empty())
      return reader.error(node, "the list is empty; without the key it is that of \"address\"");
    for (std::size_t i = 0; i < node.items.size() && i < 2; ++i) {
      Reader::Scope scope(reader, i);
      add(node.items[i]);
    }
  };
  key.print = [](const Printer&, const PairNode& node) -> Json {
    Json list = Json::array();
    for (const Address& address : node.vrrp_addresses) list.push_back(address.ip_text());
    return list.size() == 1 ? list[0] : list;
  };
  return std::move(key).initially("");
}

Key<PairNode> variables_key() {
  Key<PairNode> key = make_key<PairNode>(
      "variables", {{"type", "object"}, {"additionalProperties", {{"type", "string"}}}},
      "what ${name} stands for in the file's strings on this node");
  key.read = [](Reader& reader, const Node& node, PairNode& out) {
    if (!expect_object(reader, node, false)) return;
    for (const Member& each : node.members) {
      Reader::Scope scope(reader, each.key);
      if (!is_name(each.key))
        return reader.error(each.value, fmt::format("{}: {}", quote(each.key), kNameRule.why));
      if (each.first_begin || each.key == "node")
        return reader.error(each.value, fmt::format("{} is given already", quote(each.key)));
      const auto value = read_string(reader, each.value, "a string");
      if (value) out.variables[each.key] = *value;
    }
  };
  key.print = [](const Printer&, const PairNode& node) {
    Json values = Json::object();
    for (const auto& [name, value] : node.variables) values[name] = value;
    return values;
  };
  return std::move(key).initially(Json::object());
}

const Table<PairNode>& node_keys() {
  static const Table<PairNode> table{
      text("name", &PairNode::name, kNameRule,
           "the box's name: what its file \"node\" beside poise.json says, else its host name")
          .needed(),
      node_address_key(),
      vrrp_address_key(),
      integer("priority", &PairNode::priority, 0, 254,
              "VRRP priority: who is higher has the addresses when both begin; 0: 150 for the "
              "first node, 100 for the second")
          .initially(0),
      variables_key(),
  };
  return table;
}

Key<Vrrp> virtual_addresses_key() {
  Key<Vrrp> key = make_key<Vrrp>(
      "virtual_addresses",
      {{"type", "array"},
       {"minItems", 1},
       {"maxItems", kVirtualAddressesMax},
       {"items", {{"type", "string"}, {"pattern", "/[0-9]{1,3}$"}}}},
      "the addresses that clients know, with the size of their network, like [\"192.0.2.10/24\"]");
  key.read = [](Reader& reader, const Node& node, Vrrp& out) {
    if (!expect_list(reader, node, "[\"192.0.2.10/24\"]", kVirtualAddressesMax)) return;
    if (node.items.empty())
      return reader.error(node, "the list is empty; at least one address is needed");
    for (std::size_t i = 0; i < node.items.size() && i < kVirtualAddressesMax; ++i) {
      Reader::Scope scope(reader, i);
      const auto value = read_string(reader, node.items[i], "an address like \"192.0.2.10/24\"");
      if (!value) continue;
      const std::size_t slash = value->find('/');
      const auto address = Address::from_ip(value->substr(0, slash));
      const auto prefix = parse_number<std::uint8_t>(
          slash == value->npos ? std::string_view() : std::string_view(*value).substr(slash + 1));
      if (!address || address->is_any() || !prefix || *prefix == 0 || *prefix > address->bits()) {
        reader.error(node.items[i],
                     fmt::format("{}: expected an address with the size of its network, like "
                                 "\"192.0.2.10/24\"",
                                 quote(*value)));
        continue;
      }
      out.virtual_addresses.push_back({.address = *address, .prefix = *prefix});
    }
  };
  key.print = [](const Printer&, const Vrrp& vrrp) {
    Json list = Json::array();
    for (const VirtualAddress& each : vrrp.virtual_addresses) list.push_back(each.text());
    return list;
  };
  return std::move(key).needed();
}

const Table<Vrrp>& vrrp_keys() {
  static const Table<Vrrp> table{
      text("name", &Vrrp::name, kNameRule, "the instance's name, as in logs and metrics").needed(),
      text("interface", &Vrrp::interface,
           {is_interface, "not the name of an interface", "^[A-Za-z0-9._@:-]{1,15}$"},
           "the interface that gets the addresses")
          .needed(),
      integer(
          "router_id", &Vrrp::router_id, 1, 255,
          "VRRP's number of the instance, the same on both boxes and no other's on that network")
          .needed(),
      virtual_addresses_key(),
      duration(
          "advert_interval", &Vrrp::advert_interval, {.min = 10ms, .max = seconds(40)},
          "how often the box with the addresses says that it lives; the other takes them after "
          "three silences")
          .initially("1s"),
      boolean("preempt", &Vrrp::preempt,
              "whether the box with the higher priority takes the addresses back when it returns")
          .initially(false),
  };
  return table;
}

}  // namespace

const Table<Pair>& pair_keys() {
  static const Table<Pair> table{
      text("key_file", &Pair::key_file,
           {[](std::string_view value) { return value.size() > 1 && value.front() == '/'; },
            "not an absolute path", "^/.+$"},
           "file with the secret that both boxes share, readable by poised alone")
          .needed(),
      duration(
          "pace", &Pair::pace, {.min = 1s, .max = hours(1), .zero = true},
          "the box without the addresses probes each server at most so often; \"0s\": as often "
          "as the other")
          .initially("30s"),
      objects<Pair, PairNode>("nodes", &Pair::nodes, 2, &node_keys, nullptr, "node",
                              "the two boxes; the first calls the second"),
      objects<Pair, Vrrp>("vrrp", &Pair::vrrp, kVrrpMax, &vrrp_keys, nullptr, "vrrp",
                          "the addresses that move"),
  };
  return table;
}

}  // namespace poise::config
