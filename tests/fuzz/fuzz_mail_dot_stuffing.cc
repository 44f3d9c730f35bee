// Any bytes as message data: what is stuffed comes back, whatever follows, however it is cut; and
// any bytes as stuffed data are read the same however they are cut.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "mail/dot_stuffing.h"
#include "poise/check.h"

namespace {

using poise::mail::DotReader;

struct Data {
  std::string content;
  std::size_t rest = 0;  ///< bytes behind the final dot
  bool ended = false;
};

Data read(std::string_view all, std::size_t size) {
  DotReader reader;
  Data data;
  while (!all.empty() && !data.ended) {
    std::string_view bytes = all.substr(0, size);
    all.remove_prefix(bytes.size());
    while (true) {
      std::string_view piece;
      const DotReader::Status status = reader.next(bytes, piece);
      if (status == DotReader::Status::more) break;
      if (status == DotReader::Status::end) {
        data.ended = true;
        data.rest = bytes.size() + all.size();
        break;
      }
      data.content.append(piece);
    }
  }
  return data;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t piece = std::size_t{1} + data[0] % 16;

  const Data whole = read(bytes, bytes.size() + 1), cut = read(bytes, piece);
  CHECK(whole.content == cut.content && whole.ended == cut.ended && whole.rest == cut.rest);

  std::string stuffed;
  poise::mail::append_stuffed(bytes, stuffed);
  stuffed.append(poise::mail::kFinalDot).append("MAIL FROM:<>\r\n");
  const Data back = read(stuffed, piece);
  // Data whose lines end in CRLF comes back as it was; a last line without an end has got one.
  std::string expected(bytes);
  if (!bytes.empty() && !bytes.ends_with("\r\n")) expected += "\r\n";
  CHECK(back.ended);
  CHECK(back.rest == 14);
  CHECK(back.content == expected);
  return 0;
}
