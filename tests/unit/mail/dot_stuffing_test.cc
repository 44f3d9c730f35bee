// Message data there and back, and the one way in which it ends.
#include "mail/dot_stuffing.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace poise::mail {
namespace {

struct Read {
  std::string data;
  bool ended = false;
  std::string rest;
};

Read read_in_pieces(std::string_view stream, std::size_t piece) {
  DotReader reader;
  Read result;
  while (!stream.empty() && !result.ended) {
    std::string_view bytes = stream.substr(0, piece);
    stream.remove_prefix(bytes.size());
    while (true) {
      std::string_view data;
      const DotReader::Status status = reader.next(bytes, data);
      if (status == DotReader::Status::more) break;
      if (status == DotReader::Status::end) {
        result.ended = true;
        break;
      }
      result.data += data;
    }
    if (result.ended) result.rest = std::string(bytes) + std::string(stream);
  }
  return result;
}

TEST(DotStuffing, table) {
  struct Case {
    std::string_view data;
    std::string_view stuffed;
  };
  const Case cases[] = {
      {"", ""},
      {"a\r\n", "a\r\n"},
      {"a", "a\r\n"},
      {".\r\n", "..\r\n"},
      {"..a\r\n.b\r\n", "...a\r\n..b\r\n"},
      {"a.\r\n", "a.\r\n"},
      {"a\n.b\r\n", "a\n.b\r\n"},  // not a line's start: its dot isn't doubled, nor undone
  };
  for (const Case& c : cases) {
    std::string out;
    append_stuffed(c.data, out);
    EXPECT_EQ(out, c.stuffed) << c.data;
  }
}

TEST(DotReader, only_crlf_dot_crlf_ends_the_data) {
  for (const std::string_view smuggled :
       {"a\n.\nb", "a\n.\r\nb", "a\r\n.\nb", "a\r.\rb", "a\r\n.\rb", "a\r.\r\nb"}) {
    const std::string stream = std::string(smuggled) + "\r\n.\r\nQUIT\r\n";
    for (std::size_t piece = 1; piece <= stream.size(); ++piece) {
      const Read read = read_in_pieces(stream, piece);
      EXPECT_TRUE(read.ended);
      EXPECT_EQ(read.rest, "QUIT\r\n") << smuggled << " in pieces of " << piece;
    }
  }
}

TEST(DotReader, a_dot_alone_is_an_empty_message) {
  const Read read = read_in_pieces(".\r\nNOOP\r\n", 1);
  EXPECT_TRUE(read.ended);
  EXPECT_EQ(read.data, "");
  EXPECT_EQ(read.rest, "NOOP\r\n");
}

TEST(DotReader, undoes_stuffing_whatever_the_data_and_the_pieces) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string data;
    const std::size_t lines = random() % 6;
    for (std::size_t line = 0; line < lines; ++line) {
      for (std::size_t at = random() % 5; at > 0; --at) data += "..ab\r\n"[random() % 6];
      data += "\r\n";
    }
    std::string stream;
    append_stuffed(data, stream);
    stream += kFinalDot;
    stream += "rest";
    const Read read = read_in_pieces(stream, 1 + random() % 9);
    ASSERT_TRUE(read.ended);
    ASSERT_EQ(read.data, data);
    ASSERT_EQ(read.rest, "rest");
  }
}

TEST(DotReader, plain_text_comes_in_one_piece) {
  const std::string stream = "one\r\ntwo\r\nthree\r\n.\r\n";
  DotReader reader;
  std::string_view bytes = stream;
  std::string_view data;
  ASSERT_EQ(reader.next(bytes, data), DotReader::Status::data);
  EXPECT_EQ(data, "one\r\ntwo\r\nthree\r\n");
  EXPECT_EQ(reader.next(bytes, data), DotReader::Status::end);
}

}  // namespace
}  // namespace poise::mail
