// The live view: rates out of two answers, a bar for logs, a sparkline.
#include "ctl/top.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace poise::ctl {
namespace {

using testing::HasSubstr;

Json services(unsigned ended, unsigned open, unsigned refused) {
  return Json::array({{{"name", "smtp"},
                       {"admin", "enabled"},
                       {"sessions", open},
                       {"sessions_total", ended},
                       {"refusals", refused},
                       {"bytes_to_client", 2048 * ended},
                       {"bytes_to_backend", 0}}});
}

Json backends(unsigned ended, unsigned open, unsigned retries) {
  return Json::array({{{"pool", "mx"},
                       {"name", "mx1"},
                       {"state", "up"},
                       {"sessions", open},
                       {"sessions_total", ended},
                       {"retries", retries},
                       {"bytes_to_client", 0},
                       {"bytes_to_backend", 0}}});
}

TEST(Top, a_line_has_stars_for_sessions_and_dashes_for_failures) {
  Top top;
  EXPECT_EQ(top.line("12:00:00", services(10, 0, 0), backends(10, 0, 0), 0), "");
  EXPECT_EQ(top.line("12:00:02", services(14, 2, 1), backends(14, 2, 1), 2),
            "12:00:02      3.0/s      2 open ******--\n");
  const std::string busy = top.line("12:00:04", services(100'000, 0, 1), backends(0, 0, 1), 2);
  EXPECT_THAT(busy, HasSubstr(std::string(60, '*') + "\n")) << "bounded";
}

TEST(Top, a_daemon_that_began_anew_is_no_negative_rate) {
  Top top;
  top.line("a", services(1000, 0, 0), backends(0, 0, 0), 0);
  EXPECT_EQ(top.line("b", services(3, 0, 0), backends(0, 0, 0), 1), "b      0.0/s      0 open\n");
}

TEST(Top, a_screen_shows_rates_since_the_last_one) {
  const Json status{{"sentence", "Mail flows"}, {"verdict", "ok"}, {"problems", Json::array()}};
  Top top;
  EXPECT_THAT(top.screen(status, services(0, 4, 0), backends(0, 4, 0), 0, {}),
              HasSubstr("smtp     enabled         4      -"));
  const std::string second = top.screen(status, services(8, 4, 3), backends(8, 4, 5), 2, {});
  EXPECT_THAT(second, HasSubstr("smtp     enabled         4    4.0          8.0K"));
  EXPECT_THAT(second, HasSubstr("mx/mx1   up            4    4.0"));
}

TEST(Top, a_sparkline_has_eight_heights) {
  EXPECT_EQ(sparkline({}), "");
  EXPECT_EQ(sparkline({0, 0}), "▁▁");
  EXPECT_EQ(sparkline({0, 1, 2, 3.5, 7}), "▁▂▃▅█");
}

}  // namespace
}  // namespace poise::ctl
