// The texts inside the file's strings: read, and written back.
#include "config/units.h"

#include <gtest/gtest.h>

#include "config/nearest.h"

namespace poise::config {
namespace {

using namespace std::chrono_literals;

TEST(Durations, are_read_and_written) {
  const std::vector<std::pair<std::string, std::chrono::milliseconds>> table{
      {"0s", 0ms}, {"250ms", 250ms}, {"15s", 15s},  {"12m", 12min},
      {"1h", 1h},  {"1d", 24h},      {"24d", 576h}, {"270s", 270s}};
  for (const auto& [text, value] : table) {
    const auto parsed = parse_duration(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(*parsed, value) << text;
    EXPECT_EQ(*parse_duration(format_duration(value)), value) << text;
  }
  EXPECT_EQ(*parse_duration("1h30m"), 90min);
  EXPECT_EQ(*parse_duration("1d2h3m4s5ms"), 26h + 3min + 4s + 5ms);
  EXPECT_EQ(format_duration(90s), "90s");
  EXPECT_EQ(format_duration(65min), "65m");
  EXPECT_EQ(format_duration(24h), "1d");
}

TEST(Durations, that_are_wrong_are_refused) {
  for (const char* text :
       {"", "5", "s", "5S", "5 s", "-5s", "+5s", "5s5s", "1m1h", "1.5s", "5sec", "25d", "576h1ms",
        "18446744073709551616ms", "9223372036854775807d", "1s "}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(Rates, are_read_and_written) {
  EXPECT_EQ(parse_rate("10/s")->per_second, 10);
  EXPECT_EQ(parse_rate("30/m")->per_second, 0.5);
  EXPECT_EQ(parse_rate("0/s")->per_second, 0);
  for (const char* text : {"10/s", "31/m", "100/h", "1/h", "7/m", "0/s", "1000000000/s"})
    EXPECT_EQ(format_rate(*parse_rate(text)), text);
  for (int count = 1; count < 5000; ++count) {  // whatever the unit, the value survives
    const Rate rate = *parse_rate(std::to_string(count) + "/h");
    EXPECT_EQ(*parse_rate(format_rate(rate)), rate) << count;
  }
  for (const char* text :
       {"", "10", "/s", "10/d", "-1/s", "1.5/s", "10 /s", "1000000001/s", "10/ss"})
    EXPECT_FALSE(parse_rate(text)) << text;
}

TEST(Networks, are_exact) {
  EXPECT_EQ(parse_network("192.0.2.0/24")->text(), "192.0.2.0/24");
  EXPECT_EQ(parse_network("192.0.2.7")->text(), "192.0.2.7/32");
  EXPECT_EQ(parse_network("2001:db8::/32")->text(), "2001:db8::/32");
  EXPECT_EQ(parse_network("::1")->text(), "::1/128");
  EXPECT_EQ(parse_network("0.0.0.0/0")->text(), "0.0.0.0/0");
  for (const char* text :
       {"", "/24", "192.0.2.0/", "192.0.2.1/24", "192.0.2.0/33", "2001:db8::/129",
        "::ffff:10.0.0.0/104", "192.0.2/24", "192.0.2.0/24/24", "192.0.2.0/+24"}) {
    EXPECT_FALSE(parse_network(text)) << text;
  }
}

TEST(Endpoints, are_addresses_or_names_with_a_port) {
  EXPECT_EQ(parse_endpoint("192.0.2.7:25", 25, false)->literal->text(), "192.0.2.7:25");
  EXPECT_EQ(parse_endpoint("[2001:db8::7]:65535", 25, false)->literal->text(),
            "[2001:db8::7]:65535");
  EXPECT_EQ(parse_endpoint("127.0.0.1:0", 25, true)->port, 0);
  const auto name = parse_endpoint("mx2.example.org:25", 25, false);
  ASSERT_TRUE(name);
  EXPECT_EQ(name->host, "mx2.example.org");
  EXPECT_FALSE(name->literal);
  for (const char* text : {"",
                           ":",
                           ":25",
                           "*:25",
                           "25",
                           "mx",
                           "mx:",
                           "mx:0",
                           "mx:-1",
                           "mx:+25",
                           "mx:65536",
                           "mx:99999999999999999999",
                           "[::1]",
                           "[::1]25",
                           "[::1",
                           "[]:25",
                           "[mx]:25",
                           "::1:25",
                           "1.2.3:25",
                           "1.2.3.4.5:25",
                           "a b:25",
                           "a..b:25",
                           "-a:25",
                           "a/b:25",
                           "192.0.2.7:25 ",
                           "http://mx:25"}) {
    EXPECT_FALSE(parse_endpoint(text, 25, false)) << text;
  }
}

TEST(Modes, are_octal) {
  EXPECT_EQ(*parse_mode("0660"), 0660u);
  EXPECT_EQ(*parse_mode("600"), 0600u);
  EXPECT_EQ(format_mode(0660), "0660");
  for (const char* text : {"", "0", "66", "0888", "4755", "00660", "0x1f", "rw-"})
    EXPECT_FALSE(parse_mode(text)) << text;
}

TEST(Nearest, finds_typing_errors_and_nothing_else) {
  const std::vector<std::string> words{"round_robin", "least_conn", "source_hash", "maglev",
                                       "random_two"};
  EXPECT_EQ(nearest("roundrobin", words), "round_robin");
  EXPECT_EQ(nearest("Least-Conn", words), "least_conn");
  EXPECT_EQ(nearest("mgalev", words), "maglev");
  EXPECT_EQ(nearest("fastest", words), "");
  EXPECT_EQ(nearest("", words), "");
  EXPECT_EQ(nearest(std::string(100000, 'x'), words), "");
}

}  // namespace
}  // namespace poise::config
