// The POP3 server's dialogue: states, numbers, deletions; bodies as they are.
#include <gtest/gtest.h>

#include <string>

#include "conversation.h"

namespace poise::loadgen {
namespace {

struct LoggedIn : ServerUnderTest {
  LoggedIn() : ServerUnderTest(Protocol::pop3) {
    greet();
    say("USER u\r\nPASS p\r\n");
  }
};

TEST(Pop3Server, whole_session_in_any_pieces) {
  const std::string input =
      "CAPA\r\nUSER u\r\nPASS secret word\r\nSTAT\r\nLIST\r\nUIDL 2\r\nRETR 1\r\nDELE "
      "1\r\nSTAT\r\nQUIT\r\n";
  std::string whole;
  for (std::size_t piece = input.size(); piece > 0; --piece) {
    ServerUnderTest server(Protocol::pop3, 3, "secret word");
    EXPECT_EQ(server.greet(), "+OK mx1 ready.\r\n");
    const std::string answers = server.say(input, piece);
    if (whole.empty()) whole = answers;
    ASSERT_EQ(answers, whole);
    ASSERT_TRUE(server.wire.goodbye);
  }
  const Mailbox mailbox(3, 2000);
  EXPECT_NE(
      whole.find("+OK 3 6000\r\n+OK\r\n1 2000\r\n2 2000\r\n3 2000\r\n.\r\n+OK 2 poise-1-2\r\n+OK "
                 "2000 octets\r\n" +
                 mailbox.messages()[0].stuffed + "+OK Marked\r\n+OK 2 4000\r\n+OK mx1 Bye\r\n"),
      std::string::npos);
}

TEST(Pop3Server, errors) {
  struct Case {
    std::string_view input;
    std::string_view answer;
  };
  const Case cases[] = {
      {"RETR 4\r\n", "-ERR No such message\r\n"},
      {"RETR 0\r\n", "-ERR No such message\r\n"},
      {"RETR\r\n", "-ERR No such message\r\n"},
      {"RETR x\r\n", "-ERR No such message\r\n"},
      {"TOP 1\r\n", "-ERR TOP message lines\r\n"},
      {"FOO\r\n", "-ERR Unknown command\r\n"},
      {"DELE 1\r\nRETR 1\r\n", "+OK Marked\r\n-ERR No such message\r\n"},
      {"DELE 1\r\nRSET\r\nSTAT\r\n", "+OK Marked\r\n+OK\r\n+OK 3 6000\r\n"},
  };
  for (const Case& c : cases) {
    LoggedIn server;
    EXPECT_EQ(server.say(c.input), c.answer) << c.input;
  }
  ServerUnderTest stranger(Protocol::pop3, 3, "secret");
  stranger.greet();
  EXPECT_EQ(stranger.say("STAT\r\nPASS secret\r\nUSER u\r\nPASS wrong\r\n"),
            "-ERR Log in first\r\n-ERR USER first\r\n+OK\r\n-ERR [AUTH] Wrong password\r\n");
}

TEST(Pop3Server, top_gives_the_header_and_so_many_lines) {
  LoggedIn server;
  const Mailbox::Message& message = server.mailbox.messages()[0];
  const std::string none = server.say("TOP 1 0\r\n");
  EXPECT_EQ(none, "+OK\r\n" + message.text.substr(0, message.header_bytes) + ".\r\n");
  const std::string all = server.say("TOP 1 100000\r\n");
  EXPECT_EQ(all, "+OK\r\n" + message.stuffed);
}

TEST(Pop3Server, time_out_says_nothing) {
  LoggedIn server;
  server.dialogue->time_out(server.wire);
  EXPECT_TRUE(server.wire.close);
  EXPECT_EQ(server.take(), "");
}

TEST(Mailbox, messages_are_of_the_size_asked_for_distinct_and_the_same_each_time) {
  const Mailbox one(20, 5000);
  const Mailbox other(20, 5000);
  bool dots = false;
  bool eight_bit = false;
  for (std::size_t at = 0; at < 20; ++at) {
    const Mailbox::Message& message = one.messages()[at];
    EXPECT_EQ(message.text.size(), 5000u);
    EXPECT_EQ(message.text, other.messages()[at].text);
    if (at > 0) {
      EXPECT_NE(message.text, one.messages()[at - 1].text);
    }
    EXPECT_TRUE(message.text.ends_with("\r\n"));
    EXPECT_EQ(message.text.substr(message.header_bytes - 4, 4), "\r\n\r\n");
    dots = dots || message.text.find("\r\n.") != std::string::npos;
    eight_bit = eight_bit || message.text.find('\xc3') != std::string::npos;
    for (std::size_t lf = message.text.find('\n'); lf != std::string::npos;
         lf = message.text.find('\n', lf + 1)) {
      ASSERT_EQ(message.text[lf - 1], '\r');
    }
  }
  EXPECT_TRUE(dots);
  EXPECT_TRUE(eight_bit);
}

}  // namespace
}  // namespace poise::loadgen
