// What the answers to every PROXY header add up to.
#include "health/header_paths.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace poise::health {
namespace {

/// Outcomes in the doctor's order: none, v1 TCP4, v1 TCP6, v2 INET, v2 INET6, v2 LOCAL; '+' good,
/// '-' proxy, 'x' refused.
HeaderVerdict headers(const std::string& outcomes) {
  std::vector<Path> paths = header_paths({});
  for (std::size_t i = 0; i < paths.size(); ++i) {
    paths[i].result.outcome = outcomes[i] == '+'   ? ProbeOutcome::good
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
    const HeaderVerdict verdict = headers(c.outcomes);
    EXPECT_EQ(verdict.good, c.good) << c.outcomes;
    EXPECT_NE(verdict.sentence.find(c.says), std::string::npos) << c.outcomes << verdict.sentence;
    EXPECT_EQ(verdict.sentence.find(c.never), std::string::npos) << c.outcomes << verdict.sentence;
  }
}

}  // namespace
}  // namespace poise::health
