// Any bytes as SMTP replies: bounded, and the same replies however the bytes are cut.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mail/reply.h"
#include "poise/check.h"

namespace {

using poise::mail::ReplyReader;

std::vector<std::string> read(std::string_view all, std::size_t piece) {
  ReplyReader reader;
  std::vector<std::string> replies;
  while (!all.empty()) {
    std::string_view bytes = all.substr(0, piece);
    all.remove_prefix(bytes.size());
    while (true) {
      const ReplyReader::Status status = reader.next(bytes);
      if (status == ReplyReader::Status::more) break;
      if (status == ReplyReader::Status::malformed) {
        replies.emplace_back("malformed");
        CHECK(reader.next(bytes) == ReplyReader::Status::malformed);
        return replies;
      }
      CHECK(reader.code() >= 200 && reader.code() <= 599);
      CHECK(reader.text().size() <= ReplyReader::kMaxTextBytes);
      CHECK(!reader.in_reply());
      std::string_view arguments;
      if (poise::mail::ehlo_offers(reader.text(), "AUTH", &arguments))
        CHECK(arguments.size() < reader.text().size());
      replies.push_back(std::to_string(reader.code()) + std::string(reader.text()));
    }
    CHECK(bytes.empty());
  }
  return replies;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::string_view all(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::vector<std::string> whole = read(all, all.size() + 1);
  CHECK(read(all, 1) == whole);
  CHECK(read(all, std::size_t{2} + data[0]) == whole);
  return 0;
}
