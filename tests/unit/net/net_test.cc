#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <string>

#include "net/limits.h"
#include "net/privileges.h"
#include "net/socket.h"

namespace poise::net {
namespace {

int option(int fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  ::getsockopt(fd, level, name, &value, &length);
  return value;
}

// Two descriptors a session after the reserve; a tiny limit still serves with half of it.
TEST(Limits, sessions_follow_descriptors) {
  EXPECT_EQ(sessions_for(20000), 9744u);
  EXPECT_EQ(sessions_for(1024), 256u);
  EXPECT_EQ(sessions_for(100), 25u);
  EXPECT_EQ(sessions_for(0), 1u);
}

// Sockets of one group share the port; whoever comes from outside is told that it is taken,
// SO_REUSEPORT or not.
TEST(Listener, group_shares_and_strangers_are_noticed) {
  auto first = open_listener(*Address::from_ip("127.0.0.1", 0), {});
  ASSERT_TRUE(first) << first.error().text();
  const Address address = local_address(first->get());
  EXPECT_NE(address.port, 0);
  auto second = open_listener(address, {.expect_unused = false});
  EXPECT_TRUE(second) << second.error().text();
  auto stranger = open_listener(address, {});
  ASSERT_FALSE(stranger);
  EXPECT_NE(stranger.error().text().find("another program listens on port"), std::string::npos)
      << stranger.error().text();
}

// What accepted sockets inherit is set on the listener.
TEST(Listener, carries_what_sockets_inherit) {
  auto listener =
      open_listener(*Address::from_ip("::1", 0), {.keepalive = std::chrono::minutes(5),
                                                  .user_timeout = std::chrono::minutes(2),
                                                  .congestion = "reno"});
  ASSERT_TRUE(listener) << listener.error().text();
  EXPECT_EQ(option(listener->get(), SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option(listener->get(), IPPROTO_TCP, TCP_KEEPIDLE), 300);
  EXPECT_EQ(option(listener->get(), IPPROTO_TCP, TCP_USER_TIMEOUT), 120'000);
  EXPECT_EQ(option(listener->get(), IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(option(listener->get(), IPPROTO_IPV6, IPV6_V6ONLY), 1);
}

// An address that is not on this host can be listened on: the passive node of a pair has no VIP
// yet.
TEST(Listener, binds_addresses_of_other_hosts) {
  auto listener = open_listener(*Address::from_ip("192.0.2.1", 0), {});
  EXPECT_TRUE(listener) << listener.error().text();
}

TEST(Congestion, unknown_name_says_where_to_look) {
  EXPECT_TRUE(check_congestion("system"));
  EXPECT_TRUE(check_congestion("reno"));
  const auto unknown = check_congestion("nosuch");
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().text().find("tcp_available_congestion_control"), std::string::npos);
}

TEST(Privileges, unknown_user_says_how_to_make_one) {
  const auto changed = become("no-such-user-here", {});
  ASSERT_FALSE(changed);
  EXPECT_NE(changed.error().text().find("adduser"), std::string::npos) << changed.error().text();
}

}  // namespace
}  // namespace poise::net
