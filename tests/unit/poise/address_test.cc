#include "poise/address.h"

#include <gtest/gtest.h>

namespace poise {
namespace {

TEST(Address, text_and_back) {
  EXPECT_EQ(Address::from_ip("192.0.2.7", 25)->text(), "192.0.2.7:25");
  EXPECT_EQ(Address::from_ip("2001:db8::7", 993)->text(), "[2001:db8::7]:993");
  EXPECT_EQ(Address{}.text(), "-");
  for (const char* wrong : {"", "192.0.2", "192.0.2.256", "fe80::1%lo", "localhost", "1.2.3.4:25"})
    EXPECT_FALSE(Address::from_ip(wrong)) << wrong;
}

// Through the kernel's form and back; IPv4-mapped comes back as the IPv4 client it is.
TEST(Address, sockaddr_round_trip) {
  for (const char* ip : {"127.0.0.1", "::1", "2001:db8::ffff:1"}) {
    sockaddr_storage storage;
    const Address address = *Address::from_ip(ip, 465);
    address.to_sockaddr(storage);
    EXPECT_EQ(Address::from_sockaddr(storage), address) << ip;
  }
  sockaddr_storage storage;
  Address::from_ip("::ffff:192.0.2.9", 25)->to_sockaddr(storage);
  EXPECT_EQ(Address::from_sockaddr(storage), *Address::from_ip("192.0.2.9", 25));
}

TEST(Network, contains_by_bits) {
  const Network network{*Address::from_ip("192.0.2.128"), 25};
  EXPECT_TRUE(network.contains(*Address::from_ip("192.0.2.200", 9)));
  EXPECT_FALSE(network.contains(*Address::from_ip("192.0.2.127")));
  EXPECT_FALSE(network.contains(*Address::from_ip("::1")));
  EXPECT_TRUE((Network{*Address::from_ip("::"), 0}.contains(*Address::from_ip("2001:db8::1"))));
}

TEST(Masked, keeps_the_prefix_alone) {
  EXPECT_EQ(masked(*Address::from_ip("192.0.2.77", 4242), 24), *Address::from_ip("192.0.2.0"));
  EXPECT_EQ(masked(*Address::from_ip("192.0.2.77"), 32), *Address::from_ip("192.0.2.77"));
  EXPECT_EQ(masked(*Address::from_ip("192.0.2.255"), 27), *Address::from_ip("192.0.2.224"));
  EXPECT_EQ(masked(*Address::from_ip("2001:db8:1:2:3::4"), 64),
            *Address::from_ip("2001:db8:1:2::"));
  EXPECT_EQ(masked(*Address::from_ip("192.0.2.77"), 0), *Address::from_ip("0.0.0.0"));
}

}  // namespace
}  // namespace poise
