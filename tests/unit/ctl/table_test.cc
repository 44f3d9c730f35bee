// Tables for people: aligned, honest when the screen is narrow, coloured only where that is wanted.
#include "ctl/table.h"

#include <gtest/gtest.h>

#include <string>

namespace poise::ctl {
namespace {

Table servers() {
  Table table(
      {{"NAME", false, 100}, {"STATE", false, 90}, {"SESSIONS", true, 80}, {"WHY", false, 10}});
  table.add({"mx1", {"up", Colour::good}, "7", ""});
  table.add({"a-long-name", {"down", Colour::bad}, "12345", "421 after banner"});
  return table;
}

TEST(Table, aligns_texts_left_and_numbers_right) {
  EXPECT_EQ(servers().text({}),
            "NAME         STATE  SESSIONS  WHY\n"
            "mx1          up            7\n"
            "a-long-name  down      12345  421 after banner\n");
}

TEST(Table, leaves_out_whole_columns_and_says_so) {
  EXPECT_EQ(servers().text({.columns = 30, .colour = false}),
            "NAME         STATE  SESSIONS\n"
            "mx1          up            7\n"
            "a-long-name  down      12345\n"
            "(left out for want of width: WHY; --json has all)\n");
  EXPECT_EQ(servers().text({.columns = 5, .colour = false}),
            "NAME\nmx1\na-long-name\n"
            "(left out for want of width: WHY, SESSIONS, STATE; --json has all)\n")
      << "the first column always stays";
}

TEST(Table, colours_take_no_room) {
  const std::string text = servers().text({.columns = 80, .colour = true});
  EXPECT_NE(text.find("\x1b[32mup\x1b[0m            7"), std::string::npos) << text;
  EXPECT_NE(text.find("\x1b[31mdown\x1b[0m      12345"), std::string::npos) << text;
}

TEST(Table, characters_count_and_not_bytes) {
  EXPECT_EQ(width_of("späte Züge"), 10u);
  Table table({{"WHO", false, 2}, {"N", true, 1}});
  table.add({"Jürgen", "1"});
  table.add({"Ann", "22"});
  EXPECT_EQ(table.text({}), "WHO      N\nJürgen   1\nAnn     22\n");
}

TEST(Table, bytes_for_people) {
  EXPECT_EQ(short_bytes(0), "0");
  EXPECT_EQ(short_bytes(1023), "1023");
  EXPECT_EQ(short_bytes(1024), "1.0K");
  EXPECT_EQ(short_bytes(5'000'000), "4.8M");
  EXPECT_EQ(short_bytes(UINT64_MAX), "16384.0P");
}

}  // namespace
}  // namespace poise::ctl
