#include "balance/network_set.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "pool_builder.h"

/// Which network an address lies in: tables, and the same answer as asking each network in turn.
namespace poise::balance::test {
namespace {

Network network(const std::string& ip, std::uint8_t prefix) {
  return {masked(*Address::from_ip(ip), prefix), prefix};
}

TEST(NetworkSet, narrowest_network_answers) {
  const std::vector<Network> networks{network("10.0.0.0", 8),         network("10.1.0.0", 16),
                                      network("10.1.2.0", 24),        network("10.1.2.3", 32),
                                      network("10.1.2.3", 32),        network("192.0.2.128", 25),
                                      network("255.255.255.255", 32), network("2001:db8::", 32),
                                      network("2001:db8:1::", 48),    network("ffff::", 16)};
  const NetworkSet set(networks);
  struct Case {
    const char* ip;
    std::uint32_t answer;
  };
  constexpr std::uint32_t kNone = NetworkSet::kNone;
  const Case cases[] = {
      {"9.255.255.255", kNone},
      {"10.0.0.0", 0},
      {"10.1.0.0", 1},
      {"10.1.1.255", 1},
      {"10.1.2.0", 2},
      {"10.1.2.3", 3},
      {"10.1.2.4", 2},
      {"10.1.2.255", 2},
      {"10.1.3.0", 1},
      {"10.1.255.255", 1},
      {"10.2.0.0", 0},
      {"10.255.255.255", 0},
      {"11.0.0.0", kNone},
      {"192.0.2.127", kNone},
      {"192.0.2.128", 5},
      {"192.0.2.255", 5},
      {"192.0.3.0", kNone},
      {"255.255.255.254", kNone},
      {"255.255.255.255", 6},
      {"0.0.0.0", kNone},
      {"::", kNone},
      {"2001:db8::1", 7},
      {"2001:db8:1::1", 8},
      {"2001:db8:2::", 7},
      {"2001:db9::", kNone},
      {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 9},
      {"a01:203::", kNone},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(set.find(*Address::from_ip(c.ip)), c.answer) << c.ip;
    EXPECT_EQ(set.contains(*Address::from_ip(c.ip, 25)), c.answer != kNone) << c.ip;
  }
  EXPECT_EQ(set.find({}), kNone);
}

TEST(NetworkSet, everything_and_nothing) {
  const NetworkSet nothing;
  EXPECT_TRUE(nothing.empty());
  EXPECT_FALSE(nothing.contains(*Address::from_ip("::1")));
  EXPECT_TRUE(NetworkSet(std::vector<Network>{}).empty());
  const NetworkSet all4(std::vector<Network>{network("0.0.0.0", 0)});
  EXPECT_FALSE(all4.empty());
  EXPECT_TRUE(all4.contains(*Address::from_ip("0.0.0.0")));
  EXPECT_TRUE(all4.contains(*Address::from_ip("255.255.255.255")));
  EXPECT_FALSE(all4.contains(*Address::from_ip("::1")));
  const NetworkSet all6(std::vector<Network>{network("::", 0)});
  EXPECT_TRUE(all6.contains(*Address::from_ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")));
  EXPECT_FALSE(all6.contains(*Address::from_ip("10.0.0.1")));
}

/// Addresses from a small part of the space, so that networks nest, touch and repeat.
Address nearby(Random& random, bool v6) {
  Address address;
  address.family = v6 ? AF_INET6 : AF_INET;
  const std::size_t bytes = v6 ? 16 : 4;
  for (std::size_t i = 0; i < bytes; ++i) {
    const auto choice = static_cast<std::uint8_t>(random());
    address.ip[i] = random() % 2 == 0 ? std::uint8_t{0xff} : static_cast<std::uint8_t>(choice & 3);
  }
  return address;
}

TEST(NetworkSet, says_what_asking_each_network_says) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Random random{seed};
    std::vector<Network> networks;
    const std::size_t count = random() % 60;
    for (std::size_t i = 0; i < count; ++i) {
      const bool v6 = random() % 2 == 0;
      const auto prefix = static_cast<std::uint8_t>(random() % (v6 ? 129 : 33));
      networks.push_back({masked(nearby(random, v6), prefix), prefix});
    }
    const NetworkSet set(networks);
    std::vector<Address> asked;
    for (int i = 0; i < 100; ++i) asked.push_back(nearby(random, i % 2 == 0));
    for (const Network& one : networks) asked.push_back(one.base);
    for (const Address& address : asked) {
      std::uint32_t narrowest = NetworkSet::kNone;
      for (std::uint32_t i = 0; i < networks.size(); ++i) {
        if (!networks[i].contains(address)) continue;
        if (narrowest == NetworkSet::kNone || networks[i].prefix > networks[narrowest].prefix)
          narrowest = i;
      }
      ASSERT_EQ(set.find(address), narrowest) << "seed " << seed << " " << address.ip_text();
    }
  }
}

}  // namespace
}  // namespace poise::balance::test
