#include "log/json_line.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace poise::log {
namespace {

using Json = nlohmann::json;

Json parsed(std::string_view line) {
  std::string out;
  append_json(out, line);
  EXPECT_EQ(out.back(), '\n');
  return Json::parse(out);
}

TEST(JsonLine, a_session_line_has_a_member_for_each_word) {
  const Json json = parsed(
      R"(2026-11-21T18:50:17.123Z info session id=7 client=192.0.2.1:4711 tries=mx1:421"4.3.2 too \x22busy, a=b",mx3:ok queue_s=0.000000 to_client=512 early=0 close_reason=client_closed)");
  EXPECT_EQ(json["time"], "2026-11-21T18:50:17.123Z");
  EXPECT_EQ(json["level"], "info");
  EXPECT_EQ(json["event"], "session");
  EXPECT_EQ(json["id"], 7);
  EXPECT_EQ(json["queue_s"], 0.0);
  EXPECT_EQ(json["to_client"], 512);
  EXPECT_EQ(json["tries"], R"(mx1:421"4.3.2 too \x22busy, a=b",mx3:ok)");
  EXPECT_EQ(json["close_reason"], "client_closed");
  EXPECT_EQ(json.size(), 10u);
}

TEST(JsonLine, another_line_has_a_message) {
  const Json json = parsed("2026-11-21T18:50:17.123Z warning a \"quoted\" \\ word=1");
  EXPECT_EQ(json["level"], "warning");
  EXPECT_EQ(json["message"], "a \"quoted\" \\ word=1");
}

TEST(JsonLine, no_line_is_too_odd) {
  for (const char* line :
       {"", " ", "x", "a b", "a b ", "t l session ", "t l session = =x a",
        "t l session id=x tries=\"open", "t l session id=1.2.3", "t l session id=. id=01 id=1."}) {
    std::string out;
    append_json(out, line);
    EXPECT_TRUE(Json::accept(out)) << line;
  }
}

}  // namespace
}  // namespace poise::log
