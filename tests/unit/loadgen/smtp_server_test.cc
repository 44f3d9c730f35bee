// The SMTP, submission and LMTP server's dialogue: replies by state, the books, bounds; the same
// whatever the pieces.
#include <gtest/gtest.h>

#include <string>

#include "conversation.h"
#include "loadgen/server/message_id.h"

namespace poise::loadgen {
namespace {

constexpr std::string_view kMessage =
    "X-Poise-Load-Id: run-1\r\nSubject: x\r\n\r\n..dots\r\nend\r\n.\r\n";

TEST(SmtpServer, takes_a_message_in_any_pieces_and_pipelined) {
  const std::string input =
      "EHLO c\r\nMAIL FROM:<a@b> SIZE=100 BODY=8BITMIME\r\nRCPT TO:<c@d>\r\nRCPT "
      "TO:<e@f>\r\nDATA\r\n" +
      std::string(kMessage) + "RSET\r\nNOOP\r\nQUIT\r\n";
  for (std::size_t piece = 1; piece <= input.size(); ++piece) {
    ServerUnderTest server(Protocol::smtp);
    EXPECT_EQ(server.greet(), "220 mx1 ESMTP poise-load\r\n");
    EXPECT_EQ(codes(server.say(input, piece)), "250 250 250 250 354 250 250 250 221") << piece;
    EXPECT_EQ(server.sink.ids, std::vector<std::string>{"run-1"});
    EXPECT_EQ(server.sink.sizes,
              std::vector<std::uint64_t>{kMessage.size() - 3 - 1});  // no final dot, no doubled one
    EXPECT_TRUE(server.wire.goodbye && server.wire.close);
  }
}

TEST(SmtpServer, replies_by_state) {
  struct Case {
    std::string_view input;
    std::string_view codes;
  };
  const Case cases[] = {
      {"MAIL FROM:<a@b>\r\n", "503"},
      {"EHLO\r\n", "501"},
      {"LHLO c\r\n", "500"},
      {"HELO c\r\nMAIL FROM:<>\r\n", "250 250"},
      {"ehlo c\r\nmail from: <a@b>\r\n", "250 250"},
      {"EHLO c\r\nMAIL FROM:a@b\r\n", "250 501"},
      {"EHLO c\r\nMAIL FROM:<a@b\r\n", "250 501"},
      {"EHLO c\r\nMAIL FROM:<a@b> SIZE=10001\r\n", "250 552"},
      {"EHLO c\r\nMAIL FROM:<a@b> SIZE=x\r\n", "250 501"},
      {"EHLO c\r\nMAIL FROM:<a@b> FUTURE=1\r\n", "250 555"},
      {"EHLO c\r\nMAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\n", "250 250 503"},
      {"EHLO c\r\nRCPT TO:<c@d>\r\n", "250 503"},
      {"EHLO c\r\nDATA\r\n", "250 503"},
      {"EHLO c\r\nMAIL FROM:<a@b>\r\nDATA\r\n", "250 250 554"},
      {"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<>\r\n", "250 250 501"},
      {"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<nosuch@d>\r\nDATA\r\n", "250 250 550 554"},
      {"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<defer@d>\r\n", "250 250 450"},
      {"EHLO c\r\nMAIL FROM:<a@b>\r\nRSET\r\nMAIL FROM:<a@b>\r\n", "250 250 250 250"},
      {"EHLO c\r\nMAIL FROM:<a@b>\r\nEHLO c\r\nMAIL FROM:<a@b>\r\n", "250 250 250 250"},
      {"VRFY x\r\nEXPN x\r\nHELP\r\nFOO\r\nSTARTTLS\r\nAUTH PLAIN\r\n", "252 502 214 500 502 502"},
      {"\r\n", "500"},
  };
  for (const Case& c : cases) {
    ServerUnderTest server(Protocol::smtp);
    server.greet();
    EXPECT_EQ(codes(server.say(c.input)), c.codes) << c.input;
  }
}

TEST(SmtpServer, too_big_a_message_is_read_to_its_end_and_refused) {
  ServerUnderTest server(Protocol::smtp);
  server.greet();
  const std::string body(20'000, 'x');
  EXPECT_EQ(codes(server.say("EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + body +
                                 "\r\n.\r\nNOOP\r\n",
                             1000)),
            "250 250 250 354 552 250");
  EXPECT_TRUE(server.sink.ids.empty());
}

TEST(SmtpServer, unwritable_ledger_is_a_451) {
  ServerUnderTest server(Protocol::smtp);
  server.sink.refuses = true;
  server.greet();
  EXPECT_EQ(codes(server.say("EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" +
                             std::string(kMessage))),
            "250 250 250 354 451");
  EXPECT_EQ(server.wire.messages, 0u);
}

TEST(SmtpServer, overlong_line_is_refused_once_and_not_kept) {
  ServerUnderTest server(Protocol::smtp);
  server.greet();
  EXPECT_EQ(codes(server.say(std::string(100'000, 'x') + "\r\nNOOP\r\n", 777)), "500 250");
}

TEST(SmtpServer, many_errors_end_the_session) {
  ServerUnderTest server(Protocol::smtp);
  server.greet();
  std::string nonsense;
  for (int line = 0; line < 100; ++line) nonsense += "FOO\r\n";
  const std::string replies = codes(server.say(nonsense));
  EXPECT_TRUE(replies.ends_with("500 421")) << replies;
  EXPECT_TRUE(server.wire.close);
  EXPECT_FALSE(server.wire.goodbye);
}

TEST(SmtpServer, recipients_are_bounded) {
  ServerUnderTest server(Protocol::smtp);
  server.greet();
  server.say("EHLO c\r\nMAIL FROM:<a@b>\r\n");
  std::string last;
  for (int at = 0; at < 1001; ++at) last = server.say("RCPT TO:<c@d>\r\n");
  EXPECT_EQ(codes(last), "452");
}

TEST(SmtpServer, stops_when_its_output_is_not_taken) {
  ServerUnderTest server(Protocol::smtp);
  server.greet();
  std::string flood;
  for (int at = 0; at < 100'000; ++at) flood += "NOOP\r\n";
  std::string_view bytes = flood;
  server.dialogue->receive(bytes, server.wire);
  EXPECT_FALSE(bytes.empty());
  EXPECT_LT(server.wire.out.size(), 70'000u);
}

TEST(SmtpServer, paced_server_stops_after_each_message) {
  ServerUnderTest server(Protocol::smtp);
  server.greet();
  server.wire.paced = true;
  const std::string input =
      "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + std::string(kMessage) + "QUIT\r\n";
  std::string_view bytes = input;
  server.dialogue->receive(bytes, server.wire);
  EXPECT_EQ(bytes, "QUIT\r\n");
  EXPECT_EQ(server.wire.messages, 1u);
}

TEST(SmtpServer, refusing_greetings) {
  ServerUnderTest busy(Protocol::smtp);
  busy.greet("421 4.3.2 later");
  EXPECT_TRUE(busy.wire.close);
  ServerUnderTest strict(Protocol::smtp);
  strict.greet("554 5.7.1 no");
  EXPECT_FALSE(strict.wire.close);
  EXPECT_EQ(codes(strict.say("EHLO c\r\nQUIT\r\n")), "503 221");
}

TEST(SmtpServer, submission_login) {
  struct Case {
    std::string_view input;
    std::string_view codes;
  };
  const Case cases[] = {
      {"AUTH PLAIN AHUAc2VjcmV0\r\n", "250 235"},
      {"AUTH PLAIN AHUAd3Jvbmc=\r\n", "250 535"},
      {"AUTH PLAIN\r\nAHUAc2VjcmV0\r\n", "250 334 235"},
      {"AUTH PLAIN\r\n*\r\nNOOP\r\n", "250 334 501 250"},
      {"AUTH PLAIN !\r\n", "250 501"},
      {"AUTH PLAIN dQ==\r\n", "250 501"},
      {"AUTH LOGIN\r\ndQ==\r\nc2VjcmV0\r\n", "250 334 334 235"},
      {"AUTH LOGIN dQ==\r\nc2VjcmV0\r\n", "250 334 235"},
      {"AUTH CRAM-MD5\r\n", "250 504"},
      {"AUTH PLAIN AHUAc2VjcmV0\r\nAUTH PLAIN AHUAc2VjcmV0\r\n", "250 235 503"},
  };
  for (const Case& c : cases) {
    ServerUnderTest server(Protocol::submission, 0, "secret");
    server.greet();
    EXPECT_EQ(codes(server.say("EHLO c\r\n" + std::string(c.input))), c.codes) << c.input;
  }
}

TEST(LmtpServer, one_reply_a_recipient) {
  ServerUnderTest server(Protocol::lmtp);
  server.greet();
  EXPECT_EQ(codes(server.say("EHLO c\r\nLHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT "
                             "TO:<nosuch@d>\r\nRCPT TO:<full@d>\r\nDATA\r\n" +
                             std::string(kMessage) + "NOOP\r\n")),
            "500 250 250 250 550 250 354 250 452 250");
  EXPECT_EQ(server.sink.ids.size(), 1u);
}

TEST(LmtpServer, message_that_nobody_takes_is_not_counted) {
  ServerUnderTest server(Protocol::lmtp);
  server.greet();
  EXPECT_EQ(codes(server.say("LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<full@d>\r\nDATA\r\n" +
                             std::string(kMessage))),
            "250 250 250 354 452");
  EXPECT_TRUE(server.sink.ids.empty());
}

TEST(MessageId, found_in_any_header_and_any_pieces) {
  struct Case {
    std::string_view message;
    std::string_view id;
  };
  const Case cases[] = {
      {"X-Poise-Load-Id: run-7\r\nSubject: x\r\n\r\n", "run-7"},
      {"Received: by x\r\n\twith y\r\nx-poise-load-id:run-7 \r\nMessage-ID: <a@b>\r\n\r\n",
       "run-7"},
      {"Subject: x\r\nMessage-Id: <a@b>\r\n\r\nX-Poise-Load-Id: no\r\n", "<a@b>"},
      {"Subject: x\r\n\r\nMessage-ID: <in@body>\r\n", ""},
      {"Message-ID: two words\r\n\r\n", ""},
      {"Message-ID:\r\n\r\n", ""},
      {"", ""},
      {"X-Poise-Load-Id: run-7", "run-7"},
  };
  for (const Case& c : cases) {
    for (std::size_t piece = 1; piece <= c.message.size() + 1; ++piece) {
      MessageIdFinder finder;
      for (std::size_t at = 0; at < c.message.size(); at += piece)
        finder.add(c.message.substr(at, piece));
      EXPECT_EQ(finder.id(), c.id) << c.message << " in pieces of " << piece;
    }
  }
}

TEST(MessageId, endless_header_is_not_kept) {
  MessageIdFinder finder;
  const std::string line = "X-Filler: " + std::string(990, 'x') + "\r\n";
  for (int at = 0; at < 1000; ++at) finder.add(line);
  finder.add("X-Poise-Load-Id: too-late\r\n");
  EXPECT_EQ(finder.id(), "");
}

}  // namespace
}  // namespace poise::loadgen
