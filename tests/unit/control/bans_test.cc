// Whom no service serves: until when, how many at most, and that a restart forgets nothing.
#include "control/bans.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "control/operator_states.h"

namespace poise::control {
namespace {

using std::chrono::seconds;

const WallTime kNow{seconds(1'800'000'000)};

Network network(const char* base, std::uint8_t prefix) {
  return {.base = *Address::from_ip(base), .prefix = prefix};
}

Ban ban(const Network& of, std::optional<WallTime> until = {}) {
  return {.network = of, .since = kNow, .until = until, .reason = "a\tb", .user = "root"};
}

TEST(Bans, the_narrowest_answers_and_time_lifts_it) {
  Bans bans;
  EXPECT_EQ(bans.networks(), nullptr);
  ASSERT_TRUE(bans.add(ban(network("192.0.2.0", 24))));
  ASSERT_TRUE(bans.add(ban(network("192.0.2.7", 32), kNow + seconds(10))));
  const Address client = *Address::from_ip("192.0.2.7");
  EXPECT_EQ(bans.of(client)->network.prefix, 32);
  EXPECT_EQ(bans.next_end(), kNow + seconds(10));
  EXPECT_TRUE(bans.expire(kNow + seconds(9)).empty());
  ASSERT_EQ(bans.expire(kNow + seconds(10)).size(), 1u);
  EXPECT_EQ(bans.of(client)->network.prefix, 24);
  EXPECT_EQ(bans.next_end(), std::nullopt);
  EXPECT_TRUE(bans.networks()->contains(client));
  EXPECT_FALSE(bans.remove(network("192.0.2.7", 32)));
  EXPECT_TRUE(bans.remove(network("192.0.2.0", 24)));
  EXPECT_EQ(bans.of(client), nullptr);
}

TEST(Bans, are_bounded_and_never_everybody) {
  Bans bans;
  EXPECT_FALSE(bans.add(ban(network("0.0.0.0", 0))));
  EXPECT_FALSE(bans.add(ban(network("::", 0))));
  Network each = network("10.0.0.0", 32);
  for (std::size_t i = 0; i < Bans::kMax; ++i) {
    each.base.ip[2] = static_cast<std::uint8_t>(i >> 8);
    each.base.ip[3] = static_cast<std::uint8_t>(i);
    ASSERT_TRUE(bans.add(ban(each)));
  }
  EXPECT_TRUE(bans.add(ban(each, kNow))) << "in the place of the old one";
  EXPECT_FALSE(bans.add(ban(network("192.0.2.1", 32))));
  EXPECT_EQ(bans.all().size(), Bans::kMax);
}

TEST(Bans, survive_in_the_file_of_operators_states) {
  const std::string path = testing::TempDir() + "bans-states";
  std::filesystem::remove(path);
  {
    OperatorStates states(path);
    states.set(
        "mx/mx1",
        {.admin = {.admin = Admin::disabled, .reason = "", .user = "", .since = {}}, .weight = {}});
    ASSERT_TRUE(states.bans().add(ban(network("2001:db8::", 32), kNow + seconds(5))));
    ASSERT_TRUE(states.bans().add(ban(network("192.0.2.0", 24))));
    ASSERT_TRUE(states.save());
  }
  OperatorStates states(path);
  ASSERT_TRUE(states.load());
  EXPECT_NE(states.find("mx/mx1"), nullptr);
  ASSERT_EQ(states.bans().all().size(), 2u);
  const Ban& kept = states.bans().all().at(network("2001:db8::", 32));
  EXPECT_EQ(kept.until, kNow + seconds(5));
  EXPECT_EQ(kept.since, kNow);
  EXPECT_EQ(kept.reason, "a\tb");
  std::ofstream(path, std::ios::app) << "192.0.2.0/24\tbanned\tsoon\troot\t\t-\n";
  EXPECT_FALSE(states.load());
  EXPECT_EQ(states.bans().all().size(), 2u) << "nothing of a broken file is taken";
}

}  // namespace
}  // namespace poise::control
