#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "poise/address.h"
#include "poise/config.h"
#include "poise/result.h"

/// The texts inside the file's strings: durations, rates, networks, addresses. Pure. Errors have no
/// `where`; their `what` does not repeat the text.
namespace poise::config {

/// 2^31 - 1 ms rounded down to whole days: what every timer of the kernel and ours can hold.
inline constexpr std::chrono::milliseconds kDurationMax{std::chrono::hours{24 * 24}};

/// "250ms" "15s" "12m" "1h30m" "1d": whole numbers, units from large to small, each once.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);
/// In the largest single unit that is exact: "270s", "65m", "1d".
std::string format_duration(std::chrono::milliseconds duration);

/// "10/s" "30/m" "100/h"; "0/s" is none.
Result<Rate> parse_rate(std::string_view text);
std::string format_rate(Rate rate);

/// "192.0.2.0/24"; without a prefix one address. Bits behind the prefix are an error that shows the
/// network.
Result<Network> parse_network(std::string_view text);

struct Endpoint {
  std::string host;  ///< without brackets
  std::optional<Address> literal;
  std::uint16_t port = 0;
};

/// "192.0.2.7:25", "[2001:db8::7]:25", "mx.example.org:25". `example_port` is used in suggestions.
Result<Endpoint> parse_endpoint(std::string_view text, std::uint16_t example_port,
                                bool port_zero_allowed);

/// Letters, digits, - and _ in labels of at most 63, 253 in all; the last label is not a number.
bool is_host_name(std::string_view text);

/// Octal "0660".
Result<unsigned> parse_mode(std::string_view text);
std::string format_mode(unsigned mode);

/// The port a protocol is usually found on, for suggestions.
std::uint16_t usual_port(Protocol protocol);

}  // namespace poise::config
