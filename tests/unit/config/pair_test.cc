// The pair: one file for two boxes, and keepalived's out of it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/difference.h"
#include "config/keepalived.h"
#include "config/load.h"
#include "config/print.h"

namespace poise::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr const char* kNodes = R"([
  {"name": "lb1", "address": "192.0.2.2:9848", "variables": {"inside": "10.0.0.2"}},
  {"name": "lb2", "address": "192.0.2.3:9848", "variables": {"inside": "10.0.0.3"}}])";
constexpr const char* kVrrp = R"([{"name": "mail", "interface": "eth0", "router_id": 51,
  "virtual_addresses": ["192.0.2.10/24", "2001:db8::10/64"], "advert_interval": "200ms"}])";

std::string file(const std::string& nodes = kNodes, const std::string& vrrp = kVrrp,
                 const std::string& more = "", const std::string& source = "${inside}") {
  return R"({"services": [{"name": "s", "listen": ["0.0.0.0:25", "[::]:25"], "protocol": "lmtp",
  "pool": "p"}], "pools": [{"name": "p", "source_address": ")" +
         source + R"(", "backends": [{"name": "b", "address": "192.0.2.11:24"}]}],
"pair": {"key_file": "/etc/poise/pair.key", "nodes": )" +
         nodes + R"(, "vrrp": )" + vrrp + more + "}}";
}

LoadResult load(const std::string& text, const std::string& node = "lb1") {
  LoadOptions options;
  options.hostname = "mail.example.org";
  options.node = node;
  options.cpus = 4;
  return load_text(text, options);
}

std::vector<std::string> complaints(const std::string& text, const std::string& node = "lb1") {
  const LoadResult result = load(text, node);
  std::vector<std::string> lines;
  for (const Problem& each : result.errors) lines.push_back(each.pointer + ": " + each.message);
  for (const Problem& each : result.warnings)
    lines.push_back("warning: " + each.pointer + ": " + each.message);
  return lines;
}

TEST(PairConfig, is_one_file_for_both_boxes) {
  EXPECT_THAT(complaints(file()), IsEmpty());
  const Config one = *load(file(), "lb1").config, two = *load(file(), "lb2.example.org").config;
  EXPECT_EQ(one.pair->self().name, "lb1");
  EXPECT_EQ(two.pair->self().name, "lb2");
  EXPECT_EQ(two.pair->peer().name, "lb1");
  EXPECT_EQ(one.pair->self().priority, 150u);
  EXPECT_EQ(two.pair->self().priority, 100u);
  EXPECT_EQ(one.pair->self().vrrp_addresses.at(0).text(), "192.0.2.2:0");
  EXPECT_EQ(one.pools[0].source_address.addresses[0].ip_text(), "10.0.0.2");
  EXPECT_EQ(two.pools[0].source_address.addresses[0].ip_text(), "10.0.0.3");
}

TEST(PairConfig, prints_to_what_it_was) {
  const Config config = *load(file()).config;
  const LoadResult again = load(print_config(config));
  ASSERT_TRUE(again.config) << again.errors.front().text();
  EXPECT_EQ(*again.config, config);
  EXPECT_THAT(print_config(*load_text(R"({"services": [{"name": "s", "listen": ["127.0.0.1:24"],
    "protocol": "lmtp", "pool": "p"}], "pools": [{"name": "p", "backends": [{"name": "b",
    "address": "192.0.2.11:24"}]}]})")
                                .config),
              Not(HasSubstr("pair")));
}

TEST(PairConfig, differences_are_named) {
  std::string other = file();
  other.replace(other.find("200ms"), 5, "500ms");
  EXPECT_THAT(differences(*load(file()).config, *load(other).config),
              ElementsAre("VRRP instance mail: advert_interval: \"200ms\" -> \"500ms\""));
}

struct Bad {
  std::string text;
  std::string line;
  std::string node = "lb1";
};

TEST(PairConfig, mistakes_are_said) {
  const std::string lb1 = R"({"name": "lb1", "address": "192.0.2.2:9848"})",
                    lb2 = R"({"name": "lb2", "address": "192.0.2.3:9848"})";
  const auto nodes = [](const std::string& a, const std::string& b) {
    return file("[" + a + ", " + b + "]", kVrrp, "", "auto");
  };
  const auto vrrp = [](const std::string& member) {
    return file(kNodes, R"([{"name": "mail", "interface": "eth0", "router_id": 51,
      "virtual_addresses": ["192.0.2.10/24"])" +
                            member + "}]");
  };
  for (const Bad& bad : std::vector<Bad>{
           {file(),
            "/pair/nodes: none of \"lb1\" and \"lb2\" is this machine, \"mx\": write its "
            "node's name into the file \"node\" beside this one",
            "mx"},
           {file("[" + lb1 + "]", kVrrp, "", "auto"), "/pair/nodes: 1 node: a pair has two"},
           {nodes(lb1, lb1),
            "/pair/nodes/1/name: \"lb1\" is also the name of /pair/nodes/0; names "
            "are unique"},
           {nodes(lb1, R"({"name": "lb2", "address": "192.0.2.2:9848"})"),
            "/pair/nodes/1/address: both nodes have this address"},
           {nodes(lb1, R"({"name": "lb2", "address": "lb2:9848"})"),
            "/pair/nodes/1/address: \"lb2:9848\": not the address of one machine"},
           {nodes(lb1, R"({"name": "lb2", "address": "[2001:db8::3]:9848"})"),
            "/pair/nodes/1/address: one node has an IPv4 address, the other an IPv6 address"},
           {nodes(lb1, R"({"name": "lb2", "address": "192.0.2.3:9848", "priority": 150})"),
            "/pair/nodes/1/priority: both nodes have priority 150; who is higher begins"},
           {nodes(R"({"name": "lb1", "address": "192.0.2.2:9848", "variables": {"x": "1"}})", lb2),
            "/pair/nodes/1/variables: node \"lb2\" has no variable \"x\", the other has"},
           {nodes(R"({"name": "lb1", "address": "192.0.2.2:9848", "variables": {"x": 1}})", lb2),
            "/pair/nodes/0/variables/x: expected a string, got the number 1"},
           {nodes(R"({"name": "lb1", "address": "192.0.2.2:9848", "prio": 1})", lb2),
            "/pair/nodes/0/prio: unknown key \"prio\" (known: name, address, vrrp_address, "
            "priority, "
            "variables)"},
           {file(kNodes, kVrrp, "", "${insid}"),
            "/pools/0/source_address: no variable \"insid\" of node \"lb1\"; did you mean "
            "\"inside\"? "
            "(known: inside, node)"},
           {file(kNodes, kVrrp, R"(, "pase": "1s")"),
            "/pair/pase: unknown key \"pase\"; did you mean \"pace\"? (known: key_file, pace, "
            "nodes, "
            "vrrp)"},
           {vrrp(R"(, "advert_interval": "205ms")"),
            "/pair/vrrp/0/advert_interval: \"205ms\": VRRP counts hundredths of a second"},
           {vrrp(R"(, "advert_interval": "1ms")"),
            "/pair/vrrp/0/advert_interval: \"1ms\" is not in 10ms..40s"},
           {file(kNodes, R"([{"name": "mail", "interface": "eth0", "router_id": 51,
              "virtual_addresses": ["192.0.2.3/24"]}])"),
            "/pair/vrrp/0/virtual_addresses/0: 192.0.2.3 is the address of node \"lb2\": a virtual "
            "address is nobody's own"},
           {file(kNodes, R"([{"name": "mail", "interface": "eth0", "router_id": 51,
              "virtual_addresses": ["192.0.2.10"]}])"),
            "/pair/vrrp/0/virtual_addresses/0: \"192.0.2.10\": expected an address with the size "
            "of "
            "its network, like \"192.0.2.10/24\""},
           {file(kNodes, R"([{"name": "mail", "interface": "eth0", "router_id": 51,
              "virtual_addresses": ["2001:db8::10/64"]}])"),
            "/pair/vrrp/0/virtual_addresses: none is of the family of the nodes' \"vrrp_address\" "
            "(192.0.2.2); it may be a list of two, one of each family"},
           {nodes(R"({"name": "lb1", "address": "192.0.2.2:9848",
              "vrrp_address": ["192.0.2.2", "192.0.2.4"]})",
                  lb2),
            "/pair/nodes/0/vrrp_address/1: \"192.0.2.4\": a second address of that family; VRRP is "
            "spoken from one"},
           {nodes(R"({"name": "lb1", "address": "192.0.2.2:9848",
              "vrrp_address": ["192.0.2.2", "2001:db8::2"]})",
                  lb2),
            "/pair/nodes/1/vrrp_address: not of the family of the first node's"},
           {nodes(R"({"name": "lb1", "address": "192.0.2.2:9848", "vrrp_address": []})", lb2),
            "/pair/nodes/0/vrrp_address: the list is empty; without the key it is that of "
            "\"address\""},
           {file(kNodes, R"([{"name": "mail", "interface": "eth0 x", "router_id": 256,
              "virtual_addresses": ["192.0.2.10/24"]}])"),
            "/pair/vrrp/0/router_id: 256 is not in 1..255"},
       }) {
    EXPECT_THAT(complaints(bad.text, bad.node), testing::Contains(bad.line)) << bad.text;
  }
}

TEST(PairConfig, addresses_without_a_service_are_warned_of) {
  std::string text = file();
  text.replace(text.find("0.0.0.0:25"), 10, "192.0.2.9:25");
  EXPECT_THAT(complaints(text),
              ElementsAre("warning: /pair/vrrp/0/virtual_addresses/0: no service listens on "
                          "192.0.2.10"));
}

/// Without a pair a "${" is a text like any other.
TEST(PairConfig, variables_are_of_pairs_only) {
  const LoadResult result = load_text(R"({"services": [{"name": "s", "listen": ["127.0.0.1:24"],
    "protocol": "lmtp", "pool": "p", "refusal": {"text": "costs ${much}"}}], "pools": [{"name": "p",
    "backends": [{"name": "b", "address": "192.0.2.11:24"}]}]})");
  ASSERT_TRUE(result.config) << result.errors.front().text();
  EXPECT_EQ(result.config->services[0].refusal.text, "costs ${much}");
}

TEST(Keepalived, has_what_the_pair_says) {
  const std::string one =
      keepalived_config(*load(file(), "lb1").config, "poise", "/usr/bin/poisectl");
  for (const char* line :
       {"  router_id lb1\n", "  script_user poise\n",
        "  vrrp_notify_fifo /run/poise/vrrp-fifo poise\n", "  file \"/run/poise/vrrp-track\"\n",
        "  script \"/usr/bin/poisectl -s /run/poise/poised.sock alive\"\n",
        "vrrp_instance mail {\n  state BACKUP\n  nopreempt\n  interface eth0\n",
        "  virtual_router_id 51\n  priority 150\n  advert_int 0.2\n",
        "  unicast_src_ip 192.0.2.2\n  unicast_peer {\n    192.0.2.3\n  }\n",
        "  virtual_ipaddress {\n    192.0.2.10/24\n  }\n",
        "  virtual_ipaddress_excluded {\n    2001:db8::10/64\n  }\n"})
    EXPECT_THAT(one, HasSubstr(line));
  EXPECT_THAT(one, Not(HasSubstr("vrrp_sync_group")));
  EXPECT_THAT(keepalived_config(*load(file(), "lb2").config, "poise", "/usr/bin/poisectl"),
              HasSubstr("priority 100\n"));
}

TEST(Keepalived, speaks_the_family_of_an_instance) {
  const std::string text = file(R"([
    {"name": "lb1", "address": "192.0.2.2:9848", "vrrp_address": ["192.0.2.2", "2001:db8::2"],
     "variables": {"inside": "10.0.0.2"}},
    {"name": "lb2", "address": "192.0.2.3:9848", "vrrp_address": ["2001:db8::3", "192.0.2.3"],
     "variables": {"inside": "10.0.0.3"}}])",
                                R"([
    {"name": "six", "interface": "eth0", "router_id": 52, "virtual_addresses": ["2001:db8::10/64"]},
    {"name": "both", "interface": "eth0", "router_id": 51,
     "virtual_addresses": ["2001:db8::11/64", "192.0.2.10/24"]}])");
  ASSERT_THAT(complaints(text), IsEmpty());
  const Config config = *load(text).config;
  EXPECT_EQ(*load(print_config(config)).config, config);
  const std::string said = keepalived_config(config, "poise", "/usr/bin/poisectl");
  EXPECT_THAT(said,
              HasSubstr("  unicast_src_ip 2001:db8::2\n  unicast_peer {\n    2001:db8::3\n  }\n"
                        "  virtual_ipaddress {\n    2001:db8::10/64\n  }\n  track_file"));
  EXPECT_THAT(said, HasSubstr("  unicast_src_ip 192.0.2.2\n  unicast_peer {\n    192.0.2.3\n  }\n"
                              "  virtual_ipaddress {\n    192.0.2.10/24\n  }\n"
                              "  virtual_ipaddress_excluded {\n    2001:db8::11/64\n  }\n"));
}

TEST(Keepalived, moves_all_instances_together) {
  const std::string text = file(kNodes, R"([
    {"name": "a", "interface": "eth0", "router_id": 51, "virtual_addresses": ["192.0.2.10/24"]},
    {"name": "b", "interface": "eth1", "router_id": 51, "virtual_addresses": ["192.0.2.20/24"],
     "preempt": true}])");
  ASSERT_THAT(complaints(text), IsEmpty());
  const std::string said = keepalived_config(*load(text).config, "poise", "/usr/bin/poisectl");
  EXPECT_THAT(said, HasSubstr("vrrp_sync_group pair {\n  group {\n    a\n    b\n  }\n}\n"));
  EXPECT_THAT(said, HasSubstr("vrrp_instance b {\n  state BACKUP\n  interface eth1\n"));
}

}  // namespace
}  // namespace poise::config
