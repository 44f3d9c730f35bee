#pragma once

#include <charconv>
#include <limits>
#include <optional>
#include <string_view>
#include <system_error>

namespace poise {

/// All of `text` as a whole number in digits of `base`; nothing when there is anything else in it
/// (blanks, a +, a - where Number has no sign), or when it is above `max`.
template <class Number>
std::optional<Number> parse_number(std::string_view text,
                                   Number max = std::numeric_limits<Number>::max(), int base = 10) {
  Number value{};
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value, base);
  if (error != std::errc{} || end != last || value > max) return std::nullopt;
  return value;
}

}  // namespace poise
