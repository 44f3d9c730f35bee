// SMTP replies: what is one, where it ends, what is none, in any pieces.
#include "mail/reply.h"

#include <gtest/gtest.h>

#include <string>

namespace poise::mail {
namespace {

using Status = ReplyReader::Status;

TEST(ReplyLine, table) {
  struct Case {
    std::string_view line;
    bool good;
    int code;
    bool last;
    std::string_view text;
  };
  const Case cases[] = {
      {"220 mx1 ESMTP", true, 220, true, "mx1 ESMTP"},
      {"220-mx1 teaser", true, 220, false, "mx1 teaser"},
      {"250", true, 250, true, ""},
      {"250-", true, 250, false, ""},
      {"250 ", true, 250, true, ""},
      {"421 4.7.0 no", true, 421, true, "4.7.0 no"},
      {"599 x", true, 599, true, "x"},
      {"199 x", false, 0, false, ""},
      {"600 x", false, 0, false, ""},
      {"22 x", false, 0, false, ""},
      {"220x", false, 0, false, ""},
      {"220\tx", false, 0, false, ""},
      {"", false, 0, false, ""},
      {" 220 x", false, 0, false, ""},
      {"2a0 x", false, 0, false, ""},
      {"* OK", false, 0, false, ""},
  };
  for (const Case& c : cases) {
    ReplyLine reply;
    ASSERT_EQ(parse_reply_line(c.line, reply), c.good) << c.line;
    if (!c.good) continue;
    EXPECT_EQ(reply.code, c.code) << c.line;
    EXPECT_EQ(reply.last, c.last) << c.line;
    EXPECT_EQ(reply.text, c.text) << c.line;
  }
}

TEST(ReplyReader, same_replies_whatever_the_pieces) {
  const std::string stream =
      "220-mx1 wait\r\n220 mx1 ESMTP\r\n250-mx1\n250-SIZE 5\r\n250 PIPELINING\r\n354 go\r\n";
  for (std::size_t piece = 1; piece <= stream.size(); ++piece) {
    ReplyReader reader;
    std::string seen;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      std::string_view bytes = std::string_view(stream).substr(at, piece);
      while (true) {
        const Status status = reader.next(bytes);
        if (status == Status::more) break;
        ASSERT_EQ(status, Status::complete);
        EXPECT_FALSE(reader.in_reply());
        seen += std::to_string(reader.code()) + "[" + std::string(reader.text()) + "]";
      }
    }
    EXPECT_EQ(seen, "220[mx1 wait\nmx1 ESMTP]250[mx1\nSIZE 5\nPIPELINING]354[go]") << piece;
  }
}

TEST(ReplyReader, leaves_what_follows_the_reply) {
  ReplyReader reader;
  std::string_view bytes = "250 one\r\n250 two\r\n";
  ASSERT_EQ(reader.next(bytes), Status::complete);
  EXPECT_EQ(bytes, "250 two\r\n");
}

TEST(ReplyReader, changed_code_is_malformed_and_stays_so) {
  ReplyReader reader;
  std::string_view bytes = "250-one\r\n251 two\r\n250 ok\r\n";
  EXPECT_EQ(reader.next(bytes), Status::malformed);
  EXPECT_EQ(reader.next(bytes), Status::malformed);
}

TEST(ReplyReader, knows_when_a_reply_is_under_way) {
  ReplyReader reader;
  std::string_view bytes = "220-mx1\r\n";
  EXPECT_EQ(reader.next(bytes), Status::more);
  EXPECT_TRUE(reader.in_reply());
  bytes = "22";
  EXPECT_EQ(reader.next(bytes), Status::more);
  EXPECT_TRUE(reader.in_reply());
}

TEST(ReplyReader, endless_reply_is_malformed_after_its_limit) {
  ReplyReader reader;
  std::size_t lines = 0;
  Status status = Status::more;
  while (status == Status::more && lines < 10 * ReplyReader::kMaxReplyLines) {
    std::string_view bytes = "220-and on\r\n";
    status = reader.next(bytes);
    ++lines;
  }
  EXPECT_EQ(status, Status::malformed);
  EXPECT_EQ(lines, ReplyReader::kMaxReplyLines + 1);
}

TEST(ReplyReader, overlong_line_is_malformed) {
  ReplyReader reader;
  const std::string line = "220 " + std::string(ReplyReader::kMaxReplyLineBytes, 'x') + "\r\n";
  std::string_view bytes = line;
  EXPECT_EQ(reader.next(bytes), Status::malformed);
}

TEST(ReplyReader, text_kept_is_bounded) {
  ReplyReader reader;
  const std::string line = "250-" + std::string(4000, 'x') + "\r\n";
  for (int at = 0; at < 100; ++at) {
    std::string_view bytes = line;
    ASSERT_EQ(reader.next(bytes), Status::more);
  }
  std::string_view bytes = "250 end\r\n";
  ASSERT_EQ(reader.next(bytes), Status::complete);
  EXPECT_EQ(reader.text().size(), ReplyReader::kMaxTextBytes);
}

TEST(EhloOffers, keyword_in_any_case_with_arguments_and_never_the_name) {
  const std::string_view text = "PIPELINING.example\nSIZE 10\nstarttls\nAUTH=PLAIN\nAUTHX";
  std::string_view arguments;
  EXPECT_FALSE(ehlo_offers(text, "PIPELINING"));
  EXPECT_TRUE(ehlo_offers(text, "size", &arguments));
  EXPECT_EQ(arguments, "10");
  EXPECT_TRUE(ehlo_offers(text, "STARTTLS", &arguments));
  EXPECT_EQ(arguments, "");
  EXPECT_TRUE(ehlo_offers(text, "AUTH", &arguments));
  EXPECT_EQ(arguments, "PLAIN");
  EXPECT_FALSE(ehlo_offers(text, "START"));
  EXPECT_FALSE(ehlo_offers("", "SIZE"));
}

}  // namespace
}  // namespace poise::mail
