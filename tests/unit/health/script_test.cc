// Send and expect: a match may be cut anywhere, and is looked for only so long.
#include "health/dialogue/script.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace poise::health {
namespace {

ProbeRequest scripted(std::initializer_list<const char*> steps) {
  ProbeRequest request;
  request.type = config::ProbeType::script;
  for (const char* step : steps) request.script.push_back(*parse_script_step(step));
  return request;
}

TEST(Script, steps_are_read_with_their_escapes) {
  const auto step = parse_script_step(R"(send:A\r\n\t\\\x00\xfe)");
  ASSERT_TRUE(step);
  EXPECT_EQ(step->kind, ScriptStep::Kind::send);
  EXPECT_EQ(step->text, std::string("A\r\n\t\\\0\xfe", 7));
  for (const char* wrong :
       {"", "say:x", "send:", "expect:", R"(send:\q)", R"(send:\x1)", R"(send:\xgg)", R"(send:\)"})
    EXPECT_FALSE(parse_script_step(wrong)) << wrong;
}

TEST(Script, a_match_may_be_cut_anywhere) {
  const std::string talk = "220 hello\r\n+PONG\r\n";
  for (std::size_t cut = 0; cut <= talk.size(); ++cut) {
    const ProbeRequest request =
        scripted({"expect:hello\\r\\n", "send:PING\\r\\n", "expect:+PONG", "send:bye"});
    auto dialogue = Dialogue::make(request);
    dialogue->start();
    dialogue->receive(talk.substr(0, cut));
    dialogue->receive(talk.substr(cut));
    EXPECT_EQ(dialogue->want(), Dialogue::Want::finished) << cut;
    EXPECT_EQ(dialogue->verdict().outcome, ProbeOutcome::good) << cut;
    EXPECT_EQ(dialogue->output(), "PING\r\nbye") << cut;
  }
}

TEST(Script, a_match_is_looked_for_only_so_long) {
  const ProbeRequest request = scripted({"expect:never"});
  auto dialogue = Dialogue::make(request);
  dialogue->start();
  std::size_t bytes = 0;
  for (; dialogue->want() == Dialogue::Want::bytes && bytes < 1000000; bytes += 1000)
    dialogue->receive(std::string(1000, 'x'));
  EXPECT_EQ(dialogue->verdict().outcome, ProbeOutcome::garbage);
  EXPECT_LE(bytes, Dialogue::kMaxReplyBytes + 2000);
}

TEST(Script, an_end_in_between_tells_what_came) {
  const ProbeRequest request = scripted({"expect:220 ", "send:x", "expect:250 "});
  auto dialogue = Dialogue::make(request);
  dialogue->start();
  dialogue->receive("220 500 no");
  dialogue->ended(Dialogue::End::closed, "closed by the server");
  EXPECT_EQ(dialogue->verdict().outcome, ProbeOutcome::closed);
  EXPECT_EQ(dialogue->verdict().words, "500 no [closed by the server]");
}

}  // namespace
}  // namespace poise::health
