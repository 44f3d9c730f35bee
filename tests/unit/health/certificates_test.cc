#include "health/certificates.h"

#include <gtest/gtest.h>

namespace poise::health {
namespace {

constexpr std::int64_t kNow = 1'800'000'000, kDay = 24 * 3600;

Target backend(std::uint32_t id) {
  Target target;
  target.id = BackendId{id};
  target.pool = "imap";
  target.name = "im" + std::to_string(id);
  return target;
}

TlsFacts facts(const std::string& fingerprint, std::int64_t not_after = kNow + 90 * kDay) {
  TlsFacts facts;
  facts.subject = "CN=" + fingerprint;
  facts.fingerprint = fingerprint + std::string(60, '0');
  facts.not_after = not_after;
  return facts;
}

TEST(certificates, one_warning_before_the_end_of_each) {
  Certificates certificates;
  EXPECT_TRUE(certificates.saw(backend(1), facts("a"), kNow).empty());
  const auto warnings = certificates.saw(backend(1), facts("a"), kNow + 80 * kDay);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0], "backend imap/im1: its certificate (CN=a) expires in 10 days");
  EXPECT_TRUE(certificates.saw(backend(1), facts("a"), kNow + 81 * kDay).empty());
  EXPECT_TRUE(
      certificates.saw(backend(1), facts("b", kNow + 180 * kDay), kNow + 82 * kDay).empty());
  EXPECT_EQ(certificates.saw(backend(1), facts("c", kNow - 1), kNow).at(0),
            "backend imap/im1: its certificate (CN=c) has expired");
}

TEST(certificates, different_ones_in_a_pool_are_said_once_until_they_agree) {
  Certificates certificates;
  EXPECT_TRUE(certificates.saw(backend(1), facts("a"), kNow).empty());
  EXPECT_TRUE(certificates.saw(backend(2), facts("a"), kNow).empty());
  const auto warnings = certificates.saw(backend(2), facts("b"), kNow);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("im1 has CN=a"), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[0].find("im2 has CN=b"), std::string::npos) << warnings[0];
  EXPECT_TRUE(certificates.saw(backend(1), facts("a"), kNow).empty());
  EXPECT_TRUE(certificates.saw(backend(1), facts("b"), kNow).empty());
  EXPECT_EQ(certificates.saw(backend(1), facts("c"), kNow).size(), 1u);
}

TEST(certificates, a_backend_that_is_gone_differs_from_nobody) {
  Certificates certificates;
  (void)certificates.saw(backend(1), facts("a"), kNow);
  certificates.keep({backend(2)});
  EXPECT_TRUE(certificates.saw(backend(2), facts("b"), kNow).empty());
}

}  // namespace
}  // namespace poise::health
