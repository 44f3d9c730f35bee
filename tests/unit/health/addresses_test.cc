#include "health/addresses.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace poise::health {
namespace {

using namespace std::chrono_literals;
using Kind = FamilyAnswer::Kind;

FamilyAnswer found(std::initializer_list<const char*> texts, std::chrono::seconds ttl = 60s) {
  FamilyAnswer answer{.kind = Kind::addresses, .addresses = {}, .ttl = ttl, .error = {}};
  for (const char* text : texts) answer.addresses.push_back(*Address::from_ip(text));
  return answer;
}

FamilyAnswer nothing() {
  return {.kind = Kind::none, .addresses = {}, .ttl = {}, .error = "no such name"};
}

FamilyAnswer failed() {
  return {.kind = Kind::failed, .addresses = {}, .ttl = {}, .error = "timeout"};
}

std::string text(const AddressSet& set) {
  std::string all;
  for (const Address& each : set.addresses()) all += (all.empty() ? "" : " ") + each.ip_text();
  return all;
}

TEST(address_set, order_is_stable_and_new_ones_come_last) {
  AddressSet set;
  EXPECT_TRUE(set.update(found({"10.0.0.3", "10.0.0.1"}), found({"2001:db8::1"})));
  EXPECT_EQ(text(set), "10.0.0.1 10.0.0.3 2001:db8::1");
  EXPECT_FALSE(set.update(found({"10.0.0.1", "10.0.0.3"}), found({"2001:db8::1"})));
  EXPECT_TRUE(set.update(found({"10.0.0.0", "10.0.0.3"}), nothing()));
  EXPECT_EQ(text(set), "10.0.0.3 10.0.0.0");
}

TEST(address_set, failing_dns_takes_nothing_away) {
  AddressSet set;
  (void)set.update(found({"10.0.0.1"}), nothing());
  EXPECT_FALSE(set.update(failed(), failed()));
  EXPECT_EQ(set.error(), "timeout");
  EXPECT_FALSE(set.update(nothing(), nothing())) << "a name that vanished";
  EXPECT_EQ(set.error(), "no such name");
  EXPECT_EQ(text(set), "10.0.0.1");
  EXPECT_TRUE(set.update(found({"10.0.0.2"}), nothing()));
  EXPECT_EQ(set.error(), "");
  EXPECT_EQ(text(set), "10.0.0.2");
}

TEST(address_set, one_family_failing_keeps_what_was_known_of_it) {
  AddressSet set;
  (void)set.update(found({"10.0.0.1"}), found({"2001:db8::1"}));
  EXPECT_TRUE(set.update(found({"10.0.0.2"}), failed()));
  EXPECT_EQ(text(set), "2001:db8::1 10.0.0.2");
  EXPECT_EQ(set.wait(), AddressSet::kTtlMin) << "and is asked for again soon";
}

TEST(address_set, ttl_is_bounded_and_failures_back_off) {
  AddressSet set;
  (void)set.update(found({"10.0.0.1"}, 0s), nothing());
  EXPECT_EQ(set.wait(), 5s);
  (void)set.update(found({"10.0.0.1"}, 86400s), nothing());
  EXPECT_EQ(set.wait(), 3600s);
  (void)set.update(found({"10.0.0.1"}, 300s), found({"::1"}, 120s));
  EXPECT_EQ(set.wait(), 120s);
  std::vector<std::chrono::seconds> waits;
  for (int i = 0; i < 8; ++i) {
    (void)set.update(failed(), failed());
    waits.push_back(set.wait());
  }
  EXPECT_EQ(waits, (std::vector<std::chrono::seconds>{5s, 10s, 20s, 40s, 80s, 160s, 300s, 300s}));
  (void)set.update(found({"10.0.0.1"}, 30s), nothing());
  EXPECT_EQ(set.wait(), 30s);
}

TEST(address_set, takes_sixteen_and_says_how_many_more_there_were) {
  FamilyAnswer many = found({});
  for (int i = 1; i <= 20; ++i)
    many.addresses.push_back(*Address::from_ip("10.0.0." + std::to_string(i)));
  AddressSet set;
  (void)set.update(many, nothing());
  EXPECT_EQ(set.addresses().size(), 16u);
  EXPECT_EQ(set.left_out(), 4u);
}

TEST(address_set, the_first_address_keeps_the_name) {
  EXPECT_EQ(expanded_name("mx", *Address::from_ip("10.0.0.1"), 0), "mx");
  EXPECT_EQ(expanded_name("mx", *Address::from_ip("10.0.0.2"), 1), "mx@10.0.0.2");
}

}  // namespace
}  // namespace poise::health
