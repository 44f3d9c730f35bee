#include "config/units.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>

#include "poise/number.h"

namespace poise::config {
namespace {

using std::chrono::milliseconds;

constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
constexpr bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

Error wrong(std::string what) {
  return Error{"", std::move(what)};
}

/// Takes leading digits off `text`; more than `kDigitsMax` saturate.
std::optional<std::uint64_t> take_number(std::string_view& text) {
  constexpr std::size_t kDigitsMax = 15;
  std::size_t digits = 0;
  while (digits < text.size() && is_digit(text[digits])) ++digits;
  if (digits == 0) return std::nullopt;
  std::uint64_t value = 0;
  if (digits > kDigitsMax)
    value = 1'000'000'000'000'000;
  else
    std::from_chars(text.data(), text.data() + digits, value);
  text.remove_prefix(digits);
  return value;
}

struct Unit {
  std::string_view name;
  std::uint64_t ms;
};
constexpr std::array<Unit, 5> kUnits{Unit{"d", 86'400'000}, Unit{"h", 3'600'000}, Unit{"m", 60'000},
                                     Unit{"s", 1'000}, Unit{"ms", 1}};

Result<std::uint16_t> parse_port(std::string_view text, bool zero_allowed) {
  const char* const range = zero_allowed ? "0..65535 (0: any free port)" : "1..65535";
  std::string_view rest = text;
  const std::optional<std::uint64_t> port = take_number(rest);
  if (!port || !rest.empty())
    return wrong(text.empty() ? "no port after the colon" : "the port is not a number");
  if (*port > 65535 || (*port == 0 && !zero_allowed))
    return wrong(fmt::format("port {} is not in {}", text.substr(0, 20), range));
  return static_cast<std::uint16_t>(*port);
}

bool is_mapped_v4(const Address& address) {
  constexpr std::array<std::uint8_t, 12> kPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return address.is_v6() && std::equal(kPrefix.begin(), kPrefix.end(), address.ip.begin());
}

/// An address that needs brackets: what it should have looked like.
std::string bracketed(std::string_view text, std::uint16_t example_port) {
  // "2001:db8::1:25" is itself an address, but most likely meant as address and port.
  const std::size_t colon = text.rfind(':');
  const std::string_view host = text.substr(0, colon);
  const std::string_view tail = text.substr(colon + 1);
  if (const auto whole = Address::from_ip(host);
      whole && whole->is_v6() && parse_port(tail, true)) {
    return fmt::format("[{}]:{}", host, tail);
  }
  return fmt::format("[{}]:{}", text, example_port);
}

}  // namespace

Result<milliseconds> parse_duration(std::string_view text) {
  constexpr const char* kForm =
      "a duration is written like \"250ms\", \"15s\", \"12m\", \"1h30m\" or \"1d\"";
  if (text.empty()) return wrong(kForm);
  std::uint64_t total = 0;
  std::size_t next_unit = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const std::optional<std::uint64_t> number = take_number(rest);
    if (!number) return wrong(kForm);
    if (rest.empty())
      return wrong(fmt::format("no unit: did you mean \"{}s\" or \"{}ms\"?", text.substr(0, 20),
                               text.substr(0, 20)));
    std::size_t letters = 0;
    while (letters < rest.size() && is_letter(rest[letters])) ++letters;
    std::size_t unit = 0;
    while (unit < kUnits.size() && kUnits[unit].name != rest.substr(0, letters)) ++unit;
    if (unit == kUnits.size()) return wrong(kForm);
    if (unit < next_unit) return wrong("units go from large to small, each once: \"1h30m\"");
    next_unit = unit + 1;
    rest.remove_prefix(letters);
    if (*number > static_cast<std::uint64_t>(kDurationMax.count()) / kUnits[unit].ms)
      total = UINT64_MAX / 2;
    else if (total < UINT64_MAX / 2)
      total += *number * kUnits[unit].ms;
  }
  if (total > static_cast<std::uint64_t>(kDurationMax.count())) {
    return wrong(
        fmt::format("longer than {}, the longest there is", format_duration(kDurationMax)));
  }
  return milliseconds(static_cast<std::int64_t>(total));
}

std::string format_duration(milliseconds duration) {
  const auto count = static_cast<std::uint64_t>(duration.count());
  if (count == 0) return "0s";
  for (const Unit& unit : kUnits) {
    if (count % unit.ms == 0) return fmt::format("{}{}", count / unit.ms, unit.name);
  }
  return {};  // the last unit divides everything
}

Result<Rate> parse_rate(std::string_view text) {
  constexpr const char* kForm = "a rate is written like \"10/s\", \"30/m\" or \"100/h\"";
  constexpr std::uint64_t kMax = 1'000'000'000;
  std::string_view rest = text;
  const std::optional<std::uint64_t> number = take_number(rest);
  if (!number) return wrong(kForm);
  if (*number > kMax) return wrong(fmt::format("more than {}, the highest there is", kMax));
  const auto count = static_cast<double>(*number);
  if (rest == "/s") return Rate{count};
  if (rest == "/m") return Rate{count / 60};
  if (rest == "/h") return Rate{count / 3600};
  return wrong(kForm);
}

std::string format_rate(Rate rate) {
  for (const auto& [seconds, name] :
       {std::pair{1, "s"}, std::pair{60, "m"}, std::pair{3600, "h"}}) {
    const double count = std::round(rate.per_second * seconds);
    if (count / seconds == rate.per_second)
      return fmt::format("{}/{}", static_cast<std::uint64_t>(count), name);
  }
  return fmt::format("{}/h", static_cast<std::uint64_t>(std::round(rate.per_second * 3600)));
}

Result<Network> parse_network(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::optional<Address> base = Address::from_ip(text.substr(0, slash));
  if (!base)
    return wrong("a network is written like \"192.0.2.0/24\", \"192.0.2.7\" or \"2001:db8::/32\"");
  if (is_mapped_v4(*base)) return wrong("an IPv4 address in IPv6 form; write the IPv4 network");
  Network network{*base, static_cast<std::uint8_t>(base->bits())};
  if (slash != std::string_view::npos) {
    std::string_view rest = text.substr(slash + 1);
    const std::optional<std::uint64_t> prefix = take_number(rest);
    if (!prefix || !rest.empty() || *prefix > base->bits()) {
      return wrong(
          fmt::format("the prefix length after the / is not a number in 0..{}", base->bits()));
    }
    network.prefix = static_cast<std::uint8_t>(*prefix);
  }
  network.base = masked(*base, network.prefix);
  if (network.base != *base) {
    return wrong(fmt::format(
        "bits are set behind the prefix; the network is \"{}\", this one address \"{}/{}\"",
        network.text(), base->ip_text(), base->bits()));
  }
  return network;
}

bool is_host_name(std::string_view text) {
  if (!text.empty() && text.back() == '.') text.remove_suffix(1);
  if (text.empty() || text.size() > 253) return false;
  bool numeric = false;
  while (true) {
    const std::size_t dot = text.find('.');
    const std::string_view label = text.substr(0, dot);
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-')
      return false;
    numeric = true;
    for (const char c : label) {
      if (!is_letter(c) && !is_digit(c) && c != '-' && c != '_') return false;
      numeric = numeric && is_digit(c);
    }
    if (dot == std::string_view::npos) return !numeric;
    text.remove_prefix(dot + 1);
  }
}

Result<Endpoint> parse_endpoint(std::string_view text, std::uint16_t example_port,
                                bool port_zero_allowed) {
  const std::string form =
      fmt::format("write it like \"192.0.2.7:{0}\", \"[2001:db8::7]:{0}\"{1}", example_port,
                  port_zero_allowed ? "" : fmt::format(" or \"mx.example.org:{}\"", example_port));
  if (text.empty()) return wrong("empty; " + form);
  Endpoint endpoint;
  std::string_view port;
  if (text.front() == '[') {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return wrong("no closing bracket; " + form);
    endpoint.host = text.substr(1, close - 1);
    if (endpoint.host.find('%') != std::string::npos)
      return wrong("addresses with a zone (%eth0) are not supported");
    endpoint.literal = Address::from_ip(endpoint.host);
    if (!endpoint.literal || !endpoint.literal->is_v6())
      return wrong("no IPv6 address between the brackets");
    if (is_mapped_v4(*endpoint.literal))
      return wrong("an IPv4 address in IPv6 form; write the IPv4 address");
    if (close + 1 == text.size())
      return wrong(fmt::format("no port; did you mean \"{}:{}\"?", text, example_port));
    if (text[close + 1] != ':') return wrong("a colon and the port must follow the bracket");
    port = text.substr(close + 2);
  } else {
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos) {
      const bool only_port = text.find_first_not_of("0123456789") == std::string_view::npos;
      if (only_port)
        return wrong(fmt::format("no address; did you mean \"0.0.0.0:{0}\" or \"[::]:{0}\"?",
                                 text.substr(0, 20)));
      if (Address::from_ip(text) || is_host_name(text))
        return wrong(fmt::format("no port; did you mean \"{}:{}\"?", text, example_port));
      return wrong("not an address and a port; " + form);
    }
    if (text.find(':', colon + 1) != std::string_view::npos) {
      const std::string suggested = bracketed(text, example_port);
      const auto v6 =
          Address::from_ip(std::string_view(suggested).substr(1, suggested.find(']') - 1));
      if (!v6) return wrong("more than one colon; " + form);
      return wrong(fmt::format("an IPv6 address needs brackets: did you mean \"{}\"?", suggested));
    }
    endpoint.host = text.substr(0, colon);
    port = text.substr(colon + 1);
    endpoint.literal = Address::from_ip(endpoint.host);
    if (!endpoint.literal) {
      if (endpoint.host.empty() || endpoint.host == "*") {
        return wrong(fmt::format("no address; did you mean \"0.0.0.0:{0}\" or \"[::]:{0}\"?",
                                 port.substr(0, 20)));
      }
      if (endpoint.host.find_first_not_of("0123456789.") == std::string::npos)
        return wrong("the IPv4 address is malformed");
      if (!is_host_name(endpoint.host)) return wrong("not a valid host name");
    }
  }
  const Result<std::uint16_t> number = parse_port(port, port_zero_allowed);
  if (!number) return number.error();
  endpoint.port = *number;
  if (endpoint.literal) endpoint.literal->port = *number;
  return endpoint;
}

Result<unsigned> parse_mode(std::string_view text) {
  const auto mode = parse_number<unsigned>(text, 0777, 8);
  if (!mode || text.size() < 3 || text.size() > 4)
    return wrong("a mode is three octal digits, like \"0660\"");
  return *mode;
}

std::string format_mode(unsigned mode) {
  return fmt::format("{:04o}", mode);
}

std::uint16_t usual_port(Protocol protocol) {
  switch (protocol) {
    case Protocol::smtp:
      return 25;
    case Protocol::submission:
      return 587;
    case Protocol::smtps:
      return 465;
    case Protocol::lmtp:
      return 24;
    case Protocol::imap:
      return 143;
    case Protocol::imaps:
      return 993;
    case Protocol::pop3:
      return 110;
    case Protocol::pop3s:
      return 995;
    case Protocol::managesieve:
      return 4190;
    case Protocol::tcp:
      return 25;
  }
  return 25;
}

}  // namespace poise::config
