// Against a real kernel's ip_vs (run in a guest): what is applied is there, as ipvsadm sees it too;
// nobody else's services are touched; what goes wrong is said; 500 services of 20 servers take less
// than a second.
#include "ipvs/kernel.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace poise::ipvs {
namespace {

using ::testing::HasSubstr;

Address address(const std::string& ip, std::uint16_t port) {
  return Address::from_ip(ip, port).value();
}

std::string output_of(const std::string& command) {
  std::string text;
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  for (char chunk[4096]; std::fgets(chunk, sizeof chunk, pipe) != nullptr;) text += chunk;
  EXPECT_EQ(::pclose(pipe), 0) << command << "\n" << text;
  return text;
}

Table small_table() {
  Table table;
  Service& smtp = table[ServiceKey::of(address("192.0.2.1", 25))];
  smtp.settings = {.scheduler = "wrr"};
  smtp.destinations[address("10.0.0.11", 25)] = {.method = Method::nat, .weight = 2, .max = 500};
  smtp.destinations[address("10.0.0.12", 2525)] = {.method = Method::nat};
  Service& imap = table[ServiceKey::of(address("2001:db8::1", 143))];
  imap.settings = {.scheduler = "mh", .flags = kFallback, .persistence = Persistence{43200, 64}};
  imap.destinations[address("2001:db8::11", 143)] = {.method = Method::direct};
  Service& mark = table[ServiceKey::marked(7, AF_INET)];
  mark.settings = {.scheduler = "sh", .persistence = Persistence{60, 24}};
  mark.destinations[address("10.0.0.13", 0)] = {.method = Method::tunnel, .weight = 0};
  return table;
}

std::set<ServiceKey> keys(const Table& table) {
  std::set<ServiceKey> result;
  for (const auto& [key, service] : table) result.insert(key);
  return result;
}

/// Each test in a network namespace of its own, whose table is empty.
class RealKernel : public ::testing::Test {
 protected:
  RealKernel() {
    EXPECT_EQ(::unshare(CLONE_NEWNET), 0);
    output_of("ip link set lo up");
  }

  Applied applied(const Table& wanted, const std::set<ServiceKey>& ours = {}) {
    auto now = kernel_.read();
    EXPECT_TRUE(now) << (now ? "" : now.error().text());
    auto done = apply(kernel_, wanted, now->table, ours);
    EXPECT_TRUE(done) << (done ? "" : done.error().text());
    for (const std::string& failure : done->failures) ADD_FAILURE() << failure;
    return *done;
  }

  Kernel kernel_;
};

TEST_F(RealKernel, what_is_applied_is_there) {
  const Table wanted = small_table();
  EXPECT_EQ(applied(wanted).changes.size(), 7u);
  auto reading = kernel_.read();
  ASSERT_TRUE(reading);
  EXPECT_EQ(reading->table, wanted);
  const std::string seen = output_of("ipvsadm -Sn");
  for (const char* line :
       {"-A -t 192.0.2.1:25 -s wrr\n", "-a -t 192.0.2.1:25 -r 10.0.0.11:25 -m -w 2\n",
        "-a -t 192.0.2.1:25 -r 10.0.0.12:2525 -m -w 1\n",
        "-A -t [2001:db8::1]:143 -s mh -p 43200 -M 64 -b mh-fallback\n",
        "-a -t [2001:db8::1]:143 -r [2001:db8::11]:143 -g -w 1\n",
        "-A -f 7 -s sh -p 60 -M 255.255.255.0\n", "-a -f 7 -r 10.0.0.13:0 -i -w 0"})
    EXPECT_THAT(seen, HasSubstr(line));
  EXPECT_THAT(output_of("ipvsadm -Ln --thresholds | tr -s ' '"), HasSubstr("10.0.0.11:25 500 0"));
  EXPECT_TRUE(applied(wanted).changes.empty());
  EXPECT_EQ(applied({}, keys(wanted)).changes.size(), 3u);
  EXPECT_EQ(output_of("ipvsadm -Sn"), "");
}

TEST_F(RealKernel, services_of_others_are_not_touched) {
  output_of(
      "ipvsadm -A -t 192.0.2.9:80 -s lblc -p 77 -M 255.255.0.0; "
      "ipvsadm -a -t 192.0.2.9:80 -r 10.0.0.99:80 -i --tun-type gue --tun-port 6080; "
      "ipvsadm -A -u 192.0.2.9:53 -s rr -o");
  const std::string before = output_of("ipvsadm -Sn");
  const Table wanted = small_table();
  applied(wanted);
  applied({}, keys(wanted));
  EXPECT_EQ(output_of("ipvsadm -Sn"), before);
}

TEST_F(RealKernel, change_behind_our_back_is_one_difference) {
  const Table wanted = small_table();
  applied(wanted);
  output_of("ipvsadm -e -t 192.0.2.1:25 -r 10.0.0.11:25 -m -w 9");
  const Applied done = applied(wanted);
  ASSERT_EQ(done.changes.size(), 1u);
  EXPECT_EQ(done.changes[0].text(),
            "change server 10.0.0.11:25 (nat, weight 2, at most 500) of 192.0.2.1:25");
  output_of("ipvsadm -C");
  EXPECT_EQ(applied(wanted).changes.size(), 7u);
}

/// What we believe is wrong: the kernel refuses, is read again, and gets what is missing.
TEST_F(RealKernel, wrong_belief_is_corrected) {
  const Table wanted = small_table();
  Table believed = wanted;
  believed.begin()->second.settings.scheduler = "rr";
  const auto done = apply(kernel_, wanted, believed, {});
  ASSERT_TRUE(done);
  // Only the service that was thought to differ is looked at.
  EXPECT_TRUE(done->failures.empty());
  const auto reading = kernel_.read();
  ASSERT_TRUE(reading);
  EXPECT_EQ(reading->table.at(wanted.begin()->first), wanted.begin()->second);
}

TEST_F(RealKernel, unknown_scheduler_is_said_with_what_to_do) {
  Table wanted = small_table();
  wanted.begin()->second.settings.scheduler = "nonesuch";
  const auto done = apply(kernel_, wanted, {}, {});
  ASSERT_TRUE(done);
  ASSERT_FALSE(done->failures.empty());
  EXPECT_THAT(done->failures[0], HasSubstr("run \"modprobe ip_vs_nonesuch\""));
  EXPECT_EQ(done->after.table.size(), 2u);  // the others are there
}

TEST_F(RealKernel, timeouts_and_sync_daemons) {
  ASSERT_TRUE(kernel_.set(Timeouts{.tcp_s = 2100, .tcp_fin_s = 301}));
  auto timeouts = kernel_.timeouts();
  ASSERT_TRUE(timeouts);
  EXPECT_EQ(*timeouts, (Timeouts{2100, 301}));
  EXPECT_THAT(output_of("ipvsadm -l --timeout"), HasSubstr("2100 301"));

  const SyncDaemon master{.master = true, .interface = "lo", .id = 5},
      backup{.master = false, .interface = "lo", .id = 5};
  ASSERT_TRUE(kernel_.start(master));
  ASSERT_TRUE(kernel_.start(backup));
  auto daemons = kernel_.daemons();
  ASSERT_TRUE(daemons);
  EXPECT_EQ(daemons->size(), 2u);
  const auto twice = kernel_.start(master);
  ASSERT_FALSE(twice);
  EXPECT_THAT(twice.error().text(), HasSubstr("File exists"));
  const auto stopped = kernel_.stop(backup);
  ASSERT_TRUE(stopped) << stopped.error().text();
  EXPECT_EQ(*kernel_.daemons(), std::vector{master});
  ASSERT_TRUE(kernel_.stop(master));
  const auto wrong = kernel_.start({.master = true, .interface = "nosuch0", .id = 1});
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().text(), HasSubstr("nosuch0"));
}

TEST_F(RealKernel, large_table_takes_less_than_a_second_and_one_server_a_few_messages) {
  Table wanted;
  for (unsigned service = 0; service < 500; ++service) {
    Service& each = wanted[ServiceKey::of(
        address(fmt::format("192.0.{}.{}", service / 250, service % 250 + 1), 25))];
    each.settings.scheduler = "wrr";
    for (unsigned server = 1; server <= 20; ++server)
      each.destinations[address(fmt::format("10.0.{}.{}", server, service % 250 + 1), 25)] = {};
  }
  double best = 1e9;
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(apply(kernel_, {}, wanted, keys(wanted)));
    const auto begin = std::chrono::steady_clock::now();
    const auto done = apply(kernel_, wanted, {}, {});
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    ASSERT_TRUE(done);
    EXPECT_TRUE(done->failures.empty());
    EXPECT_EQ(done->changes.size(), 10500u);
    std::printf("10,500 changes applied and read back in %.3f s\n", took.count());
    best = std::min(best, took.count());
  }
  // An emulated processor is no measure; user-mode Linux computes as the host does.
  const char* guest = std::getenv("POISE_GUEST");
  if (guest == nullptr || std::string(guest) != "qemu") {
    EXPECT_LT(best, 1.0);
  }

  const Table believed = wanted;
  wanted.begin()->second.destinations.begin()->second.weight = 0;
  const std::uint64_t messages = kernel_.messages_sent();
  const auto one = apply(kernel_, wanted, believed, {});
  ASSERT_TRUE(one);
  EXPECT_EQ(one->changes.size(), 1u);
  EXPECT_EQ(kernel_.messages_sent() - messages, 3u);  // the change, and two to read it back
  EXPECT_EQ(kernel_.read()->table, wanted);
}

}  // namespace
}  // namespace poise::ipvs
