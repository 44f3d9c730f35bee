#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// Small pure functions on command lines that the dialogues of both sides share.
namespace poise::loadgen {

/// Equal in any case, ASCII.
bool same_word(std::string_view a, std::string_view b);
bool starts_with_word(std::string_view text, std::string_view prefix);  ///< in any case

/// Cuts the first word off `line`; blanks after it go too. Empty when nothing is left.
std::string_view take_word(std::string_view& line);

/// Digits only, at most 18 of them.
std::optional<std::uint64_t> parse_number(std::string_view text);

/// RFC 4648; nullopt when it isn't.
std::optional<std::string> decode_base64(std::string_view text);

/// User and password out of a SASL PLAIN message: authzid NUL authcid NUL password (RFC 4616).
struct Credentials {
  std::string user;
  std::string password;
};
std::optional<Credentials> parse_sasl_plain(std::string_view decoded);

/// The same as a client sends it, in base64.
std::string base64_plain(std::string_view user, std::string_view password);

/// An IMAP quoted string.
std::string imap_quoted(std::string_view text);

}  // namespace poise::loadgen
