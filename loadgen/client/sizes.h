#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "poise/result.h"

namespace poise::loadgen {

/// Messages of this size, and how many of them there are compared with the others.
struct SizeClass {
  std::size_t bytes = 0;
  double weight = 1;

  bool operator==(const SizeClass&) const = default;
};

inline constexpr std::size_t kMessageBytesMax = std::size_t{1} << 30;

/// How large messages are:
///   "4KiB"                      all alike
///   "1KiB-64KiB"                evenly between the two (32 sizes)
///   "2KiB*70,20KiB*25,1MiB*5"   so many of each
///   "lognormal:8KiB:1.2"        the shape of real mail: median and sigma (64 sizes; those beyond
///                               1 GiB are that)
/// A distribution becomes classes, because all messages of one size share one body; together the
/// classes take at most kMessageBytesMax.
Result<std::vector<SizeClass>> parse_sizes(std::string_view text);

/// "4096", "4KiB", "20M": units are powers of 1024.
Result<std::size_t> parse_size(std::string_view text);

}  // namespace poise::loadgen
