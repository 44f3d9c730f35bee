// The ManageSieve server's dialogue: capabilities, logins, scripts; literals of any size.
#include <gtest/gtest.h>

#include <string>

#include "conversation.h"
#include "loadgen/text/words.h"

namespace poise::loadgen {
namespace {

struct LoggedIn : ServerUnderTest {
  LoggedIn() : ServerUnderTest(Protocol::managesieve) {
    greet();
    say("AUTHENTICATE \"PLAIN\" \"" + base64_plain("u", "p") + "\"\r\n");
  }
};

TEST(SieveServer, whole_session_in_any_pieces) {
  const std::string input = "CAPABILITY\r\nAUTHENTICATE \"PLAIN\"\r\n\"" +
                            base64_plain("u", "right") +
                            "\"\r\nPUTSCRIPT \"a\" {7+}\r\nkeep;\r\n\r\nSETACTIVE \"a\"\r\n"
                            "LISTSCRIPTS\r\nGETSCRIPT \"a\"\r\nNOOP \"t\"\r\nLOGOUT\r\n";
  const std::string capabilities =
      "\"IMPLEMENTATION\" \"mx1\"\r\n\"SIEVE\" \"fileinto\"\r\n\"SASL\" \"PLAIN\"\r\n"
      "\"VERSION\" \"1.0\"\r\n";
  for (std::size_t piece = input.size(); piece > 0; --piece) {
    ServerUnderTest server(Protocol::managesieve, 0, "right");
    ASSERT_EQ(server.greet(), capabilities + "OK \"mx1 ready.\"\r\n");
    ASSERT_EQ(
        server.say(input, piece),
        capabilities +
            "OK \"That is all\"\r\n\"\"\r\nOK \"Logged in.\"\r\nOK \"Done\"\r\nOK \"Done\"\r\n"
            "\"a\" ACTIVE\r\nOK \"That is all\"\r\n{7}\r\nkeep;\r\n\r\nOK \"Done\"\r\n"
            "OK (TAG \"t\") \"Done\"\r\nOK \"Bye\"\r\n");
    ASSERT_TRUE(server.wire.goodbye);
    ASSERT_TRUE(server.wire.close);
  }
}

TEST(SieveServer, answers) {
  struct Case {
    std::string_view input;
    std::string_view answer;
  };
  const Case cases[] = {
      {"GETSCRIPT \"x\"\r\n", "NO (NONEXISTENT) \"No such script\"\r\n"},
      {"SETACTIVE \"x\"\r\n", "NO (NONEXISTENT) \"No such script\"\r\n"},
      {"SETACTIVE \"\"\r\n", "OK \"Done\"\r\n"},
      {"HAVESPACE \"x\" 100\r\n", "OK \"It fits\"\r\n"},
      {"HAVESPACE \"x\" 99999999\r\n", "NO (QUOTA/MAXSIZE) \"Too big\"\r\n"},
      {"HAVESPACE x 100\r\n", "NO \"Command or its arguments not understood\"\r\n"},
      {"FROB\r\n", "NO \"Command or its arguments not understood\"\r\n"},
      {"PUTSCRIPT \"x\" {3}\r\n", "NO \"A client's literal is written {n+}\"\r\n"},
      {"STARTTLS\r\n", "NO \"TLS is not offered, or on already\"\r\n"},
      {"PUTSCRIPT \"x\" \"k\"\r\nSETACTIVE \"x\"\r\nDELETESCRIPT \"x\"\r\n",
       "OK \"Done\"\r\nOK \"Done\"\r\nNO (ACTIVE) \"The active script stays\"\r\n"},
      {"PUTSCRIPT \"x\" \"k\"\r\nDELETESCRIPT \"x\"\r\nLISTSCRIPTS\r\n",
       "OK \"Done\"\r\nOK \"Done\"\r\nOK \"That is all\"\r\n"},
  };
  for (const Case& c : cases) {
    LoggedIn server;
    EXPECT_EQ(server.say(c.input), c.answer) << c.input;
  }
  ServerUnderTest stranger(Protocol::managesieve, 0, "right");
  stranger.greet();
  EXPECT_EQ(stranger.say("LISTSCRIPTS\r\nAUTHENTICATE \"PLAIN\" \"" + base64_plain("u", "wrong") +
                         "\"\r\nAUTHENTICATE \"PLAIN\" \"?\"\r\n"),
            "NO \"Log in first\"\r\nNO \"Wrong password\"\r\nNO \"No SASL PLAIN response\"\r\n");
}

TEST(SieveServer, what_it_holds_is_bounded) {
  LoggedIn server;
  const std::string big(100'000, 'x');
  EXPECT_EQ(server.say("PUTSCRIPT \"big\" {100000+}\r\n" + big + "\r\nNOOP\r\n", 5000),
            "NO (QUOTA/MAXSIZE) \"Too big\"\r\nOK \"Done\"\r\n");
  for (int at = 0; at < 16; ++at)
    EXPECT_EQ(server.say("PUTSCRIPT \"s" + std::to_string(at) + "\" \"k\"\r\n"), "OK \"Done\"\r\n");
  EXPECT_EQ(server.say("PUTSCRIPT \"one more\" \"k\"\r\n"),
            "NO (QUOTA/MAXSCRIPTS) \"Too many scripts\"\r\n");
  for (int at = 0; at < 30 && !server.wire.close; ++at) server.say("FROB\r\n");
  EXPECT_TRUE(server.wire.close);
}

TEST(SieveServer, capabilities_come_again_once_tls_is_there) {
  ServerUnderTest server(Protocol::managesieve);
  server.settings.tls = true;
  EXPECT_NE(server.greet().find("\"STARTTLS\"\r\n"), std::string::npos);
  EXPECT_EQ(server.say("STARTTLS\r\n"), "OK \"Begin TLS\"\r\n");
  EXPECT_TRUE(server.wire.start_tls);
  server.wire.start_tls = false;
  server.dialogue->secured(server.wire);
  const std::string again = server.take();
  EXPECT_TRUE(again.starts_with("\"IMPLEMENTATION\" \"mx1\"\r\n"));
  EXPECT_TRUE(again.ends_with("OK \"TLS is on.\"\r\n"));
  EXPECT_EQ(again.find("STARTTLS"), std::string::npos);
}

TEST(SieveServer, a_greeting_that_refuses_ends_it) {
  for (const bool temporary : {true, false}) {
    ServerUnderTest server(Protocol::managesieve);
    const std::string text = refusal_greeting(Protocol::managesieve, "mx1", temporary);
    EXPECT_EQ(server.greet(text), temporary ? "BYE (TRYLATER) \"mx1 not available\"\r\n"
                                            : "BYE \"mx1 not available\"\r\n");
    EXPECT_TRUE(server.wire.close);
  }
}

}  // namespace
}  // namespace poise::loadgen
