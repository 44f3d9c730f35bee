#include "health/passive_fall.h"

#include <gtest/gtest.h>

#include <vector>

namespace poise::health {
namespace {

using namespace std::chrono_literals;

const Time kNow{10h};
const Time kNever = Time::min();

TEST(passive_fall, enough_failures_within_the_window_from_two_networks) {
  PassiveFall fall(3, 10s);
  EXPECT_FALSE(fall.failed(1, kNow, kNever));
  EXPECT_FALSE(fall.failed(2, kNow + 1s, kNever));
  EXPECT_TRUE(fall.failed(1, kNow + 2s, kNever));
  EXPECT_EQ(fall.count(), 0u) << "counting begins anew";
}

TEST(passive_fall, one_client_alone_takes_nobody_out) {
  PassiveFall fall(3, 10s);
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(fall.failed(1, kNow + i * 1ms, kNever));
  EXPECT_TRUE(fall.failed(2, kNow + 1s, kNever));
}

TEST(passive_fall, a_second_network_counts_only_within_the_window) {
  PassiveFall fall(3, 10s);
  EXPECT_FALSE(fall.failed(2, kNow, kNever));
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(fall.failed(1, kNow + 11s + i * 1ms, kNever));
}

TEST(passive_fall, failures_far_apart_never_add_up) {
  PassiveFall fall(3, 10s);
  for (int i = 0; i < 100; ++i)
    EXPECT_FALSE(fall.failed(static_cast<std::uint64_t>(i), kNow + i * 6s, kNever));
}

TEST(passive_fall, a_good_greeting_in_between_starts_it_over) {
  PassiveFall fall(3, 10s);
  EXPECT_FALSE(fall.failed(1, kNow, kNever));
  EXPECT_FALSE(fall.failed(2, kNow + 1s, kNever));
  EXPECT_FALSE(fall.failed(3, kNow + 3s, kNow + 2s));
  EXPECT_FALSE(fall.failed(4, kNow + 4s, kNow + 2s));
  EXPECT_TRUE(fall.failed(5, kNow + 5s, kNow + 2s));
}

TEST(passive_hold, doubles_when_it_comes_again_and_forgets) {
  PassiveHold hold;
  Time now = kNow;
  std::vector<std::chrono::nanoseconds> lengths;
  for (int i = 0; i < 7; ++i) {
    const Time until = hold.begin(now);
    lengths.push_back(until - now);
    now = until + 1s;
  }
  EXPECT_EQ(lengths, (std::vector<std::chrono::nanoseconds>{10s, 20s, 40s, 80s, 160s, 300s, 300s}));
  EXPECT_EQ(hold.begin(now + 1h) - now - 1h, 10s);
}

TEST(passive_fall, a_share_of_the_pool_and_never_all_of_it) {
  EXPECT_EQ(ejected_max(1, 1.0), 0u);
  EXPECT_EQ(ejected_max(2, 0.5), 1u);
  EXPECT_EQ(ejected_max(3, 0.5), 1u);
  EXPECT_EQ(ejected_max(4, 0.5), 2u);
  EXPECT_EQ(ejected_max(10, 0.3), 3u);
  EXPECT_EQ(ejected_max(3, 0.1), 1u);
  EXPECT_EQ(ejected_max(3, 0), 0u);
  EXPECT_EQ(ejected_max(3, 1.0), 2u);
}

}  // namespace
}  // namespace poise::health
