#include "poise/number.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace poise {
namespace {

TEST(ParseNumber, takes_all_of_the_text_or_nothing) {
  EXPECT_EQ(parse_number<unsigned>("0"), 0u);
  EXPECT_EQ(parse_number<unsigned>("007"), 7u);
  for (const char* text : {"", " 1", "1 ", "+1", "-1", "1x", "0x1", "1.0"})
    EXPECT_EQ(parse_number<unsigned>(text), std::nullopt) << text;
  EXPECT_EQ(parse_number<std::int64_t>("-12"), -12);
}

TEST(ParseNumber, stays_within_the_type_and_below_max) {
  EXPECT_EQ(parse_number<std::uint16_t>("65535"), 65535);
  EXPECT_EQ(parse_number<std::uint16_t>("65536"), std::nullopt);
  EXPECT_EQ(parse_number<std::uint64_t>("18446744073709551616"), std::nullopt);
  EXPECT_EQ(parse_number<unsigned>("10", 10), 10u);
  EXPECT_EQ(parse_number<unsigned>("11", 10), std::nullopt);
}

TEST(ParseNumber, reads_other_bases) {
  EXPECT_EQ(parse_number<unsigned>("0660", 0777, 8), 0660u);
  EXPECT_EQ(parse_number<unsigned>("8", 0777, 8), std::nullopt);
  EXPECT_EQ(parse_number<std::uint8_t>("fF", 0xff, 16), 0xff);
}

}  // namespace
}  // namespace poise
