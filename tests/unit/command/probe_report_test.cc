// What several probes of one server add up to: may strangers relay.
#include "command/probe_report.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace poise {
namespace {

std::vector<health::Path> answers(const std::vector<std::pair<const char*, int>>& codes) {
  std::vector<health::Path> paths;
  for (const auto& [name, code] : codes) {
    paths.push_back({name, {}, {}});
    paths.back().result.rcpt_code = code;
  }
  return paths;
}

TEST(Relay, one_open_path_is_an_open_relay) {
  const RelayVerdict verdict = judge_relay(answers({{"none", 554}, {"v2", 250}, {"v2 as x", 550}}));
  EXPECT_FALSE(verdict.good);
  EXPECT_TRUE(verdict.sentence.starts_with("OPEN RELAY through this path: v2. "))
      << verdict.sentence;
}

TEST(Relay, refusals_of_either_kind_are_good) {
  const RelayVerdict verdict = judge_relay(answers({{"none", 454}, {"v2", 550}, {"v2 as x", 0}}));
  EXPECT_TRUE(verdict.good);
  EXPECT_EQ(verdict.sentence, "No relay: RCPT elsewhere was refused (none; v2).");
}

TEST(Relay, nothing_learnt_is_not_good) {
  EXPECT_FALSE(judge_relay(answers({{"none", 0}, {"v2", 0}})).good);
}

TEST(Json, is_one_line_with_what_programs_need) {
  health::ProbeRequest request;
  request.type = config::ProbeType::smtp;
  health::ProbeResult result;
  result.outcome = ProbeOutcome::busy;
  result.words = "421 \"no\\";
  result.total = std::chrono::microseconds(1500);
  const std::string json = json_of("mx1:25", request, result);
  EXPECT_EQ(json.find('\n'), std::string::npos);
  for (const char* member : {R"("good": false)", R"("outcome": "busy")", R"("reply": "421 \"no\\")",
                             R"("duration_seconds": 0.001500)", R"("tls": null)"})
    EXPECT_NE(json.find(member), std::string::npos) << member << json;
}

}  // namespace
}  // namespace poise
