// What several probes of one server add up to: may strangers relay, which PROXY headers are taken.
#include "command/probe_report.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace poise {
namespace {

std::vector<Path> answers(const std::vector<std::pair<const char*, int>>& codes) {
  std::vector<Path> paths;
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

/// Outcomes in the doctor's order: none, v1 TCP4, v1 TCP6, v2 INET, v2 INET6, v2 LOCAL; '+' good,
/// '-' proxy, 'x' refused.
RelayVerdict headers(const std::string& outcomes) {
  const char* const names[] = {"none", "v1 TCP4", "v1 TCP6", "v2 INET", "v2 INET6", "v2 LOCAL"};
  std::vector<Path> paths;
  for (std::size_t i = 0; i < 6; ++i) {
    paths.push_back({names[i], {}, {}});
    paths.back().result.outcome = outcomes[i] == '+'   ? ProbeOutcome::good
                                  : outcomes[i] == '-' ? ProbeOutcome::proxy
                                                       : ProbeOutcome::refused;
  }
  return judge_headers(paths);
}

TEST(Headers, table) {
  struct Case {
    const char* outcomes;
    bool good;
    const char* says;
    const char* never;
  };
  for (const Case& c : {
           Case{"+-----", true, "leave \"send_proxy\" \"off\"", "IPv6"},
           Case{"-+++++", true, "header only: set \"send_proxy\": \"v2\"", "IPv6"},
           Case{"++++++", true, "with a PROXY header and without", "IPv6"},
           Case{"-++---", true, "set \"send_proxy\": \"v1\" in the pool; version 2 is not taken",
                "v2"},
           Case{"---+++", true, "(\"v1\" is not taken)", "IPv6"},
           Case{"-+-+-+", true, "inet_protocols = all", "LOCAL is not taken"},
           Case{"-++++-", true, "LOCAL is not taken", "IPv6"},
           Case{"------", false, "haproxy_trusted_networks", "leave"},
           Case{"xxxxxx", false, "cannot be connected", "haproxy"},
       }) {
    const RelayVerdict verdict = headers(c.outcomes);
    EXPECT_EQ(verdict.good, c.good) << c.outcomes;
    EXPECT_NE(verdict.sentence.find(c.says), std::string::npos) << c.outcomes << verdict.sentence;
    EXPECT_EQ(verdict.sentence.find(c.never), std::string::npos) << c.outcomes << verdict.sentence;
  }
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
