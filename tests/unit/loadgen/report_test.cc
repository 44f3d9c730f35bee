// What a run's report says, and in which order.
#include "loadgen/report/report.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace poise::loadgen {
namespace {

Tally example() {
  Tally tally;
  tally.started = 100;
  tally.ok = 90;
  tally.failed = 10;
  tally.submits = 180;
  tally.failures[static_cast<std::size_t>(Failure::refused)] = 4;
  tally.failures[static_cast<std::size_t>(Failure::greeting_421)] = 1;
  tally.failures[static_cast<std::size_t>(Failure::temporary)] = 5;
  tally.codes["451"] = 5;
  tally.attempts = 100;
  tally.by_target = {{100, 5, 180}};
  tally.blocks.emplace_back().name = "smtp";
  return tally;
}

RunResult result_of(const Tally& tally) {
  return {.tally = tally,
          .title = "smtp",
          .run_id = "r",
          .choice = "turns",
          .targets = {"127.0.0.1:25"},
          .clients = 16,
          .elapsed = 2 * kSecond};
}

TEST(Report, the_studys_two_columns_come_first) {
  const Tally tally = example();
  const std::string text = report_text(result_of(tally));
  EXPECT_TRUE(text.starts_with("submits/s          90.0\nconnection errors  5.00 % (5 of 100)\n"))
      << text;
  EXPECT_NE(text.find("  greeting_421"), std::string::npos);
  EXPECT_NE(text.find("  451"), std::string::npos);
  EXPECT_EQ(text.find("closed_before_greeting"),
            std::string::npos);  // what did not happen is not listed
}

TEST(Report, json_has_the_same_figures) {
  const Tally tally = example();
  const nlohmann::json json = report_json(result_of(tally));
  EXPECT_EQ(json["submits_per_second"], 90.0);
  EXPECT_EQ(json["connection_error_percent"], 5.0);
  EXPECT_EQ(json["connection_errors"], 5);
  EXPECT_EQ(json["sessions"]["ok"], 90);
  EXPECT_EQ(json["failures"]["refused"], 4);
  EXPECT_EQ(json["codes"]["451"], 5);
  EXPECT_TRUE(json["rate"].is_null());
}

TEST(Report, only_failures_of_the_connection_are_connection_errors) {
  EXPECT_TRUE(is_connection_error(Failure::refused));
  EXPECT_TRUE(is_connection_error(Failure::greeting_5yz));
  EXPECT_TRUE(is_connection_error(Failure::service_closing));
  EXPECT_FALSE(is_connection_error(Failure::none));
  EXPECT_FALSE(is_connection_error(Failure::temporary));
  EXPECT_FALSE(is_connection_error(Failure::local));
}

TEST(Report, nothing_done_divides_by_nothing) {
  Tally tally;
  RunResult result = result_of(tally);
  result.elapsed = 0;
  tally.by_target = {{}};
  EXPECT_TRUE(report_text(result).starts_with(
      "submits/s          0.0\nconnection errors  0.00 % (0 of 0)\n"));
}

TEST(Report, durations_have_three_digits) {
  EXPECT_EQ(duration_text(213'400), "0.213 ms");
  EXPECT_EQ(duration_text(1'420'000), "1.42 ms");
  EXPECT_EQ(duration_text(14'200'000), "14.2 ms");
  EXPECT_EQ(duration_text(142 * kMillisecond), "142 ms");
  EXPECT_EQ(duration_text(1420 * kMillisecond), "1.42 s");
  EXPECT_EQ(duration_text(300 * kSecond), "300 s");
}

TEST(Report, bar_has_stars_for_sessions_and_dashes_for_failures) {
  EXPECT_EQ(progress_line(5, {100, 0, 0}, 500, 16, 100),
            "    5 s     100/s        500 ended     16 open  " + std::string(40, '*'));
  EXPECT_TRUE(progress_line(5, {50, 0, 0}, 500, 16, 100).ends_with("  " + std::string(20, '*')));
  EXPECT_TRUE(progress_line(5, {30, 10, 0}, 500, 16, 40)
                  .ends_with("  " + std::string(30, '*') + std::string(10, '-')));
  EXPECT_TRUE(
      progress_line(5, {9999, 1, 0}, 500, 16, 10000).ends_with("*-"));  // one failure still shows
  EXPECT_TRUE(progress_line(5, {0, 0, 0}, 500, 16, 100).ends_with("open  "));
  EXPECT_TRUE(progress_line(5, {0, 7, 0}, 500, 16, 7).ends_with("  " + std::string(40, '-')));
}

TEST(Tally, names_are_bounded) {
  std::map<std::string, std::uint64_t, std::less<>> table;
  for (int at = 0; at < 1000; ++at) Tally::count_name(table, "server" + std::to_string(at));
  EXPECT_LE(table.size(), Tally::kMaxNames + 1);
  EXPECT_EQ(table["other"], 1000 - Tally::kMaxNames);
}

}  // namespace
}  // namespace poise::loadgen
