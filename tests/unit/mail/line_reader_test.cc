// Lines out of a stream, whatever its pieces; bounded whatever a peer sends.
#include "mail/line_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace poise::mail {
namespace {

/// All lines of `stream` when it arrives in pieces of `piece` bytes; "<long>" for an overlong one.
std::vector<std::string> lines_of(std::string_view stream, std::size_t piece, std::size_t limit) {
  LineReader reader(limit);
  std::vector<std::string> lines;
  while (!stream.empty()) {
    std::string_view bytes = stream.substr(0, piece);
    stream.remove_prefix(bytes.size());
    while (true) {
      std::string_view line;
      const LineReader::Status status = reader.next(bytes, line);
      if (status == LineReader::Status::more) break;
      lines.push_back(status == LineReader::Status::line ? std::string(line) : "<long>");
    }
    EXPECT_TRUE(bytes.empty());
  }
  return lines;
}

TEST(LineReader, same_lines_whatever_the_pieces) {
  const std::string stream =
      "EHLO a\r\n\r\nbare\nlast with "
      "cr\r\r\n12345678901234567890\r\n1234567890123456789012\r\nafter\r\nunended";
  const std::vector<std::string> expected{
      "EHLO a", "", "bare", "last with cr\r", "12345678901234567890", "<long>", "after"};
  for (std::size_t piece = 1; piece <= stream.size(); ++piece)
    EXPECT_EQ(lines_of(stream, piece, 20), expected) << piece;
}

TEST(LineReader, endless_line_is_reported_once_and_not_kept) {
  LineReader reader(16);
  const std::string much(1000, 'x');
  std::string_view line;
  for (int round = 0; round < 1000; ++round) {
    std::string_view bytes = much;
    ASSERT_EQ(reader.next(bytes, line), LineReader::Status::more);
  }
  EXPECT_FALSE(reader.at_line_start());
  std::string_view end = "\r\nok\r\n";
  EXPECT_EQ(reader.next(end, line), LineReader::Status::too_long);
  EXPECT_EQ(reader.next(end, line), LineReader::Status::line);
  EXPECT_EQ(line, "ok");
}

TEST(LineReader, whole_line_is_not_copied) {
  LineReader reader(16);
  const std::string stream = "QUIT\r\n";
  std::string_view bytes = stream;
  std::string_view line;
  ASSERT_EQ(reader.next(bytes, line), LineReader::Status::line);
  EXPECT_EQ(static_cast<const void*>(line.data()), static_cast<const void*>(stream.data()));
}

}  // namespace
}  // namespace poise::mail
