#include "loadgen/text/body.h"

#include <algorithm>
#include <cstdint>

#include "loadgen/text/random.h"

namespace poise::loadgen {

std::string make_text(std::uint64_t seed, std::size_t bytes) {
  static constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz      ETAOIN.,-";
  Random random(seed);
  std::string text;
  text.reserve(bytes);
  while (bytes - text.size() > 2) {
    const std::uint64_t kind = random.next();
    const std::size_t left = bytes - text.size() - 2;
    std::size_t length = std::min<std::size_t>(left, 40 + kind % 36);
    if (kind % 61 == 0) length = std::min<std::size_t>(left, 900);  // a long line
    if (left - length < 3) length = left;                           // no room for another line
    const std::size_t begin = text.size();
    for (std::size_t at = 0; at < length; at += 8) {
      std::uint64_t bits = random.next();
      for (std::size_t in = 0; in < 8 && at + in < length; ++in, bits >>= 8)
        text.push_back(kLetters[(bits & 0xff) % kLetters.size()]);
    }
    if (kind % 17 == 0) text[begin] = '.';
    if (kind % 23 == 0 && length >= 2) text.replace(begin + length - 2, 2, "\xc3\xa9");
    text.append("\r\n");
  }
  while (text.size() < bytes) text.append("\r\n");
  return text;
}

}  // namespace poise::loadgen
