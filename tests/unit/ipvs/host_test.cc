// Each thing that people forget is found on a host laid out in a directory, with the command that
// sets it right, and nothing is found where all is well.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "ipvs/host_checks.h"
#include "ipvs/owned.h"

namespace poise::ipvs {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class Host : public ::testing::Test {
 protected:
  Host() {
    fs::create_directories(root_);
    write("/proc/net/ip_vs", "");
    fs::create_directories(root_ / "sys/module/ip_vs_wrr");
    sysctl("net/ipv4/ip_forward", 1);
    sysctl("net/ipv6/conf/all/forwarding", 1);
    for (const char* interface : {"all", "default", "lo", "eth0"}) {
      sysctl(std::string("net/ipv4/conf/") + interface + "/send_redirects", 0);
      sysctl(std::string("net/ipv4/conf/") + interface + "/rp_filter", 0);
    }
    for (const char* name :
         {"conntrack", "pmtu_disc", "expire_quiescent_template", "expire_nodest_conn"})
      sysctl(std::string("net/ipv4/vs/") + name, 1);
    write("/sys/class/net/eth0/mtu", "1520\n");
  }
  ~Host() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) const {
    const fs::path full = root_ / path.substr(1);
    fs::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  void sysctl(const std::string& name, int value) const {
    write("/proc/sys/" + name, std::to_string(value) + "\n");
  }

  [[nodiscard]] std::vector<Finding> findings() const {
    return check_host({.nat = true,
                       .tunnel = true,
                       .v4 = true,
                       .v6 = true,
                       .sticky = true,
                       .removes = true,
                       .schedulers = {"wrr"}},
                      root_.string());
  }

  fs::path root_ = fs::temp_directory_path() / ("poise-host-" + std::to_string(::getpid()));
};

TEST_F(Host, nothing_is_found_where_all_is_well) {
  EXPECT_TRUE(findings().empty());
}

TEST_F(Host, without_ip_vs_nothing_else_is_looked_at) {
  fs::remove(root_ / "proc/net/ip_vs");
  sysctl("net/ipv4/ip_forward", 0);
  const auto found = findings();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0].error);
  EXPECT_EQ(found[0].text(), "the kernel has no ip_vs; run: modprobe ip_vs");
}

TEST_F(Host, each_forgotten_sysctl_is_found_with_its_command) {
  struct Forgotten {
    const char* name;
    int value;
    bool error;
    const char* command;
  };
  for (const Forgotten& each : {
           Forgotten{"net/ipv4/ip_forward", 0, true, "sysctl -w net.ipv4.ip_forward=1"},
           Forgotten{"net/ipv6/conf/all/forwarding", 0, true,
                     "sysctl -w net.ipv6.conf.all.forwarding=1"},
           Forgotten{"net/ipv4/conf/eth0/send_redirects", 1, false,
                     "sysctl -w net.ipv4.conf.eth0.send_redirects=0"},
           Forgotten{"net/ipv4/conf/all/send_redirects", 1, false,
                     "sysctl -w net.ipv4.conf.all.send_redirects=0"},
           Forgotten{"net/ipv4/conf/eth0/rp_filter", 1, false,
                     "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
           Forgotten{"net/ipv4/vs/pmtu_disc", 0, false, "sysctl -w net.ipv4.vs.pmtu_disc=1"},
           Forgotten{"net/ipv4/vs/expire_quiescent_template", 0, false,
                     "sysctl -w net.ipv4.vs.expire_quiescent_template=1"},
           Forgotten{"net/ipv4/vs/expire_nodest_conn", 0, false,
                     "sysctl -w net.ipv4.vs.expire_nodest_conn=1"},
       }) {
    const fs::path path = root_ / "proc/sys" / each.name;
    sysctl(each.name, each.value);
    const auto found = findings();
    ASSERT_EQ(found.size(), 1u) << each.name;
    EXPECT_EQ(found[0].error, each.error) << each.name;
    EXPECT_EQ(found[0].command, each.command);
    sysctl(each.name, 1 - each.value);
  }
}

TEST_F(Host, connections_that_netfilter_misses_are_found) {
  sysctl("net/ipv4/vs/conntrack", 0);
  EXPECT_TRUE(findings().empty());  // nobody tracks anything
  sysctl("net/netfilter/nf_conntrack_max", 262144);
  ASSERT_EQ(findings().size(), 1u);
  EXPECT_EQ(findings()[0].command, "sysctl -w net.ipv4.vs.conntrack=1");
  sysctl("net/ipv4/vs/conntrack", 1);
  sysctl("net/netfilter/nf_conntrack_max", 4096);
  ASSERT_EQ(findings().size(), 1u);
  EXPECT_THAT(findings()[0].text(), HasSubstr("4096 connections at most"));
}

TEST_F(Host, tunnel_needs_room_on_the_wire) {
  write("/sys/class/net/eth0/mtu", "1500\n");
  ASSERT_EQ(findings().size(), 1u);
  EXPECT_EQ(findings()[0].command, "ip link set eth0 mtu 1520");
}

TEST_F(Host, scheduler_that_is_not_loaded_is_found) {
  fs::remove(root_ / "sys/module/ip_vs_wrr");
  ASSERT_EQ(findings().size(), 1u);
  EXPECT_EQ(findings()[0].command, "modprobe ip_vs_wrr");
}

TEST_F(Host, services_of_ours_are_remembered) {
  const std::string path = (root_ / "services").string();
  EXPECT_TRUE(read_owned(path).empty());
  const std::set<ServiceKey> services{ServiceKey::of(*Address::from_ip("192.0.2.1", 25)),
                                      ServiceKey::of(*Address::from_ip("2001:db8::1", 143)),
                                      ServiceKey::marked(7, AF_INET6)};
  ASSERT_TRUE(write_owned(path, services));
  EXPECT_EQ(read_owned(path), services);
  std::ofstream(path, std::ios::app) << "nonsense\n4 192.0.2.1 99999 6 0\n6 192.0.2.1 25 6 0\n";
  EXPECT_EQ(read_owned(path), services);
  EXPECT_FALSE(write_owned((root_ / "no/such/folder").string(), services));
}

}  // namespace
}  // namespace poise::ipvs
