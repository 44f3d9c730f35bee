#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace poise::loadgen {

/// The header by which our messages are known; Message-ID serves for everybody else's.
inline constexpr std::string_view kIdHeader = "X-Poise-Load-Id";

/// `bytes` bytes of text in CRLF lines, decided by `seed` alone, with leading dots, long lines and
/// 8-bit letters among it. Ends with CRLF, hence nothing is shorter than 2 bytes.
std::string make_text(std::uint64_t seed, std::size_t bytes);

}  // namespace poise::loadgen
