#include "loadgen/text/body.h"

#include <algorithm>
#include <cstdint>

namespace poise::loadgen {
namespace {

/// splitmix64: small, and the same everywhere and always, which <random>'s distributions are not.
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace

std::string make_text(std::uint64_t seed, std::size_t bytes) {
  static constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz      ETAOIN.,-";
  std::uint64_t state = seed;
  std::string text;
  text.reserve(bytes);
  while (bytes - text.size() > 2) {
    const std::uint64_t kind = next_random(state);
    const std::size_t left = bytes - text.size() - 2;
    std::size_t length = std::min<std::size_t>(left, 40 + kind % 36);
    if (kind % 61 == 0) length = std::min<std::size_t>(left, 900);  // a long line
    if (left - length < 3) length = left;                           // no room for another line
    const std::size_t begin = text.size();
    for (std::size_t at = 0; at < length; at += 8) {
      std::uint64_t bits = next_random(state);
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
