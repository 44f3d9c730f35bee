#include "loadgen/client/sizes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#include "loadgen/text/words.h"

namespace poise::loadgen {
namespace {

constexpr std::size_t kUniformSteps = 32;
constexpr std::size_t kLognormalSteps = 64;
constexpr std::size_t kClassesMax = 1000;

/// The standard normal value below which a share `p` lies; by bisection, which 64 calls can afford.
double normal_quantile(double p) {
  double low = -10;
  double high = 10;
  for (int step = 0; step < 60; ++step) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

Result<double> parse_positive(std::string_view text, std::string_view what) {
  const std::string copy(text);
  char* end = nullptr;
  const double value = std::strtod(copy.c_str(), &end);
  if (copy.empty() || *end != '\0' || !std::isfinite(value) || value <= 0)
    return Error{copy, fmt::format("{} is a number above 0", what)};
  return value;
}

Result<std::vector<SizeClass>> lognormal(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos)
    return Error{std::string(text), "write lognormal:MEDIAN:SIGMA, as in lognormal:8KiB:1.2"};
  const Result<std::size_t> median = parse_size(text.substr(0, colon));
  if (!median) return median.error();
  const Result<double> sigma = parse_positive(text.substr(colon + 1), "sigma");
  if (!sigma) return sigma.error();
  std::vector<SizeClass> classes;
  for (std::size_t at = 0; at < kLognormalSteps; ++at) {
    const double share = (static_cast<double>(at) + 0.5) / kLognormalSteps;
    const double bytes = static_cast<double>(*median) * std::exp(*sigma * normal_quantile(share));
    classes.push_back(
        {static_cast<std::size_t>(std::min(bytes, static_cast<double>(kMessageBytesMax))), 1});
  }
  return classes;
}

Result<std::vector<SizeClass>> uniform(std::string_view from, std::string_view to) {
  const Result<std::size_t> low = parse_size(from);
  if (!low) return low.error();
  const Result<std::size_t> high = parse_size(to);
  if (!high) return high.error();
  if (*low > *high) return Error{fmt::format("{}-{}", from, to), "the smaller size comes first"};
  std::vector<SizeClass> classes;
  for (std::size_t at = 0; at < kUniformSteps; ++at)
    classes.push_back({*low + (*high - *low) * at / (kUniformSteps - 1), 1});
  return classes;
}

Result<std::vector<SizeClass>> weighted(std::string_view text) {
  std::vector<SizeClass> classes;
  while (!text.empty()) {
    std::string_view one = text.substr(0, text.find(','));
    text.remove_prefix(std::min(one.size() + 1, text.size()));
    SizeClass size;
    if (const std::size_t star = one.find('*'); star != std::string_view::npos) {
      const Result<double> weight = parse_positive(one.substr(star + 1), "a weight");
      if (!weight) return weight.error();
      size.weight = *weight;
      one = one.substr(0, star);
    }
    const Result<std::size_t> bytes = parse_size(one);
    if (!bytes) return bytes.error();
    size.bytes = *bytes;
    classes.push_back(size);
  }
  return classes;
}

Result<std::vector<SizeClass>> parse_form(std::string_view text) {
  constexpr std::string_view kLognormal = "lognormal:";
  if (text.starts_with(kLognormal)) return lognormal(text.substr(kLognormal.size()));
  if (const std::size_t dash = text.find('-'); dash != std::string_view::npos)
    return uniform(text.substr(0, dash), text.substr(dash + 1));
  if (text.empty()) return Error{"", "say how large: 4KiB"};
  return weighted(text);
}

}  // namespace

Result<std::size_t> parse_size(std::string_view text) {
  const std::string copy(text);
  char* end = nullptr;
  const double value = std::strtod(copy.c_str(), &end);
  std::string_view unit = end;
  double scale = 1;
  if (!unit.empty()) {
    const char letter = static_cast<char>(unit[0] | 0x20);
    if (letter == 'k') scale = 1024;
    if (letter == 'm') scale = 1024.0 * 1024;
    if (letter == 'g') scale = 1024.0 * 1024 * 1024;
    if (letter != 'b') unit.remove_prefix(1);
    if (letter != 'b' && scale == 1) unit = "?";
  }
  const bool digit = !copy.empty() && copy[0] >= '0' && copy[0] <= '9';
  if (!digit || !(unit.empty() || same_word(unit, "b") || same_word(unit, "ib")) ||
      !std::isfinite(value))
    return Error{copy, "is no size; write 4096, 4KiB or 20MiB"};
  if (value * scale > static_cast<double>(kMessageBytesMax))
    return Error{copy, "is more than 1 GiB"};
  return static_cast<std::size_t>(value * scale);
}

Result<std::vector<SizeClass>> parse_sizes(std::string_view text) {
  Result<std::vector<SizeClass>> classes = parse_form(text);
  if (!classes) return classes;
  if (classes->size() > kClassesMax)
    return Error{std::string(text.substr(0, 80)), fmt::format("more than {} sizes", kClassesMax)};
  double sum = 0;
  for (const SizeClass& one : *classes) sum += static_cast<double>(one.bytes);
  if (sum > static_cast<double>(kMessageBytesMax))
    return Error{std::string(text),
                 "its sizes together take more than 1 GiB, and each is kept once in memory"};
  return classes;
}

}  // namespace poise::loadgen
