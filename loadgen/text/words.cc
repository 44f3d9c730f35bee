#include "loadgen/text/words.h"

#include <strings.h>

#include "poise/number.h"

namespace poise::loadgen {

bool same_word(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

bool starts_with_word(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() && same_word(text.substr(0, prefix.size()), prefix);
}

std::string_view take_word(std::string_view& line) {
  while (line.starts_with(' ')) line.remove_prefix(1);
  const std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(word.size());
  while (line.starts_with(' ')) line.remove_prefix(1);
  return word;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  if (text.size() > 18) return std::nullopt;
  return poise::parse_number<std::uint64_t>(text);
}

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::string decoded;
  std::uint32_t bits = 0;
  unsigned have = 0;
  std::size_t padding = 0;
  for (const char c : text) {
    std::uint32_t value;
    if (c >= 'A' && c <= 'Z')
      value = static_cast<std::uint32_t>(c - 'A');
    else if (c >= 'a' && c <= 'z')
      value = static_cast<std::uint32_t>(c - 'a' + 26);
    else if (c >= '0' && c <= '9')
      value = static_cast<std::uint32_t>(c - '0' + 52);
    else if (c == '+')
      value = 62;
    else if (c == '/')
      value = 63;
    else if (c == '=' && padding < 2) {
      ++padding;
      continue;
    } else
      return std::nullopt;
    if (padding > 0) return std::nullopt;  // nothing but padding follows padding
    bits = bits << 6 | value;
    have += 6;
    if (have >= 8) {
      have -= 8;
      decoded.push_back(static_cast<char>(bits >> have & 0xff));
    }
  }
  return decoded;
}

std::optional<Credentials> parse_sasl_plain(std::string_view decoded) {
  const std::size_t first = decoded.find('\0');
  if (first == std::string_view::npos) return std::nullopt;
  const std::size_t second = decoded.find('\0', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  return Credentials{std::string(decoded.substr(first + 1, second - first - 1)),
                     std::string(decoded.substr(second + 1))};
}

std::string base64_plain(std::string_view user, std::string_view password) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string plain(1, '\0');
  plain.append(user).append(1, '\0').append(password);
  std::string encoded;
  for (std::size_t at = 0; at < plain.size(); at += 3) {
    std::uint32_t bits = 0;
    for (std::size_t in = 0; in < 3; ++in) {
      bits = bits << 8 | (at + in < plain.size() ? static_cast<unsigned char>(plain[at + in]) : 0u);
    }
    for (std::size_t in = 0; in < 4; ++in) {
      const bool padding = at + in > plain.size();
      encoded.push_back(padding ? '=' : kDigits[bits >> (18 - 6 * in) & 63]);
    }
  }
  return encoded;
}

std::string imap_quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted.push_back('\\');
    quoted.push_back(c);
  }
  return quoted + "\"";
}

}  // namespace poise::loadgen
