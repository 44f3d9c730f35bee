#include "log/line.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstring>

#include "log/escape.h"

// Every session pays for this, so the appenders work on a bare pointer into a buffer that has room
// for the longest line (kLineBytesMax, proved at the end of this file), and the commonest values
// take a short cut.
namespace poise::log {

namespace {

char* put(char* out, std::string_view text) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

/// A literal: its length is known, so this is a few stores.
template <std::size_t N>
char* put(char* out, const char (&text)[N]) {
  std::memcpy(out, text, N - 1);
  return out + N - 1;
}

char* put_number(char* out, std::uint64_t number) {
  constexpr std::ptrdiff_t kDigitsMax = 20;
  return std::to_chars(out, out + kDigitsMax, number).ptr;
}

constexpr auto kTwoDigits = [] {
  std::array<char, 200> digits{};
  for (std::size_t n = 0; n < 100; ++n) {
    digits[2 * n] = static_cast<char>('0' + n / 10);
    digits[2 * n + 1] = static_cast<char>('0' + n % 10);
  }
  return digits;
}();

char* put_two_digits(char* out, std::uint64_t number) {
  std::memcpy(out, &kTwoDigits[2 * number], 2);
  return out + 2;
}

/// Microseconds as seconds with six decimals.
char* put_seconds(char* out, std::uint64_t us) {
  constexpr std::uint64_t kSecond = 1'000'000;
  if (us == 0) return put(out, "0.000000");
  const std::uint64_t rest = us % kSecond;
  if (us < kSecond)
    *out++ = '0';
  else
    out = put_number(out, us / kSecond);
  *out++ = '.';
  out = put_two_digits(out, rest / 10000);
  out = put_two_digits(out, rest / 100 % 100);
  return put_two_digits(out, rest % 100);
}

/// "0" to "255", and their lengths in the fourth byte.
constexpr auto kOctets = [] {
  std::array<std::array<char, 4>, 256> octets{};
  for (unsigned n = 0; n < 256; ++n) {
    std::size_t at = 0;
    if (n >= 100) octets[n][at++] = static_cast<char>('0' + n / 100);
    if (n >= 10) octets[n][at++] = static_cast<char>('0' + n / 10 % 10);
    octets[n][at++] = static_cast<char>('0' + n % 10);
    octets[n][3] = static_cast<char>(at);
  }
  return octets;
}();

char* put_octet(char* out, std::uint8_t octet) {
  const std::array<char, 4>& text = kOctets[octet];
  std::memcpy(out, text.data(), 4);  // the byte too many is overwritten by what follows
  return out + text[3];
}

char* put_v4(char* out, const std::array<std::uint8_t, 16>& ip) {
  for (std::size_t i = 0; i < 4; ++i) {
    if (i > 0) *out++ = '.';
    out = put_octet(out, ip[i]);
  }
  return out;
}

/// RFC 5952: lower case, no leading zeros, the first longest run of two or more zero groups becomes
/// "::".
char* put_v6(char* out, const std::array<std::uint8_t, 16>& ip) {
  if (std::all_of(ip.begin(), ip.begin() + 10, [](std::uint8_t byte) { return byte == 0; })) {
    // ::, ::1 and the forms that end in dotted quads: rare, the library knows them.
    inet_ntop(AF_INET6, ip.data(), out, INET6_ADDRSTRLEN);
    return out + std::strlen(out);
  }
  std::array<unsigned, 8> groups{};
  std::size_t run_start = 8;
  std::size_t run_length = 1;
  for (std::size_t i = 0, zeros = 0; i < 8; ++i) {
    groups[i] = static_cast<unsigned>(ip[2 * i]) << 8 | ip[2 * i + 1];
    zeros = groups[i] == 0 ? zeros + 1 : 0;
    if (zeros > run_length) {
      run_length = zeros;
      run_start = i + 1 - zeros;
    }
  }
  for (std::size_t i = 0; i < 8;) {
    if (i == run_start) {
      out = put(out, "::");
      i += run_length;
      continue;
    }
    if (i > 0 && i != run_start + run_length) *out++ = ':';
    out = std::to_chars(out, out + 4, groups[i], 16).ptr;
    ++i;
  }
  return out;
}

char* put_escaped(char* out, std::string_view text) {
  escape(text, Escape::quoted, [&](std::string_view piece) { out = put(out, piece); });
  return out;
}

bool is_digit(char byte) {
  return byte >= '0' && byte <= '9';
}

/// 421"4.3.2 too busy", busy"* BYE overloaded", refused, ok
char* put_what(char* out, const TryRecord& attempt) {
  if (attempt.outcome == TryOutcome::ok) return put(out, "ok");
  const auto end = std::find(attempt.words.begin(), attempt.words.end(), '\0');
  std::string_view words(attempt.words.data(),
                         static_cast<std::size_t>(end - attempt.words.begin()));
  while (!words.empty() && (words.back() == '\n' || words.back() == '\r')) words.remove_suffix(1);

  const bool answered =
      attempt.outcome == TryOutcome::busy || attempt.outcome == TryOutcome::rejected;
  const bool coded = words.size() >= 3 && is_digit(words[0]) && is_digit(words[1]) &&
                     is_digit(words[2]) &&
                     (words.size() == 3 || words[3] == ' ' || words[3] == '-');
  if (answered && coded) {
    out = put(out, words.substr(0, 3));
    words.remove_prefix(std::min<std::size_t>(words.size(), 4));
  } else {
    out = put(out, name_of(attempt.outcome));
  }
  if (words.empty()) return out;
  *out++ = '"';
  out = put_escaped(out, words);
  *out++ = '"';
  return out;
}

}  // namespace

char* put_ip(char* out, const Address& address) {
  if (address.is_v4()) return put_v4(out, address.ip);
  if (address.is_v6()) return put_v6(out, address.ip);
  return put(out, "-");
}

char* put_address(char* out, const Address& address) {
  if (!address) return put(out, "-");
  if (address.is_v6()) *out++ = '[';
  out = put_ip(out, address);
  if (address.is_v6()) *out++ = ']';
  *out++ = ':';
  return put_number(out, address.port);
}

char* LineFormatter::put_time(char* out, std::int64_t unix_us) {
  constexpr std::int64_t kLast =
      253'402'300'799'999'999;  // 9999-12-31T23:59:59.999999Z: four digits of year
  unix_us = std::clamp<std::int64_t>(unix_us, 0, kLast);
  const std::int64_t second = unix_us / 1'000'000;
  if (second != second_) {
    const std::chrono::sys_seconds time{std::chrono::seconds{second}};
    const auto day = std::chrono::floor<std::chrono::days>(time);
    const std::chrono::year_month_day date{day};
    const std::chrono::hh_mm_ss clock{time - day};
    const auto year = static_cast<unsigned>(static_cast<int>(date.year()));
    char* text = put_two_digits(second_text_, year / 100);
    text = put_two_digits(text, year % 100);
    *text++ = '-';
    text = put_two_digits(text, static_cast<unsigned>(date.month()));
    *text++ = '-';
    text = put_two_digits(text, static_cast<unsigned>(date.day()));
    *text++ = 'T';
    text = put_two_digits(text, static_cast<std::uint64_t>(clock.hours().count()));
    *text++ = ':';
    text = put_two_digits(text, static_cast<std::uint64_t>(clock.minutes().count()));
    *text++ = ':';
    text = put_two_digits(text, static_cast<std::uint64_t>(clock.seconds().count()));
    *text = '.';
    second_ = second;
  }
  std::memcpy(out, second_text_, sizeof second_text_);
  out += sizeof second_text_;
  const auto ms = static_cast<std::uint64_t>(unix_us / 1000 % 1000);
  *out++ = static_cast<char>('0' + ms / 100);
  return put_two_digits(out, ms % 100);
}

char* LineFormatter::session_end(char* out, const SessionEnd& end) {
  const SessionRecord& record = end.record;
  out = put_time(out, record.ended_unix_us);
  out = put(out, "Z info session id=");
  out = put_number(out, record.id);
  out = put(out, " client=");
  out = put_address(out, record.client);
  out = put(out, " service=");
  out = put(out, names_.service(record.service));
  out = put(out, " vip=");
  out = put_address(out, record.vip);
  out = put(out, " backend=");
  const std::string_view backend = names_.backend(record.backend);
  out = put(out, backend);
  out = put(out, " src=");
  out = put_address(out, record.source);
  out = put(out, " dst=");
  out = put_address(out, record.destination);

  out = put(out, " tries=");
  if (!record.tries.empty()) {
    for (std::size_t i = 0; i < record.tries.size(); ++i) {
      if (i > 0) *out++ = ',';
      if (end.tries_omitted > 0 && i + 1 == record.tries.size()) {
        *out++ = '+';
        out = put_number(out, end.tries_omitted);
        *out++ = ',';
      }
      out = put(out, names_.backend(record.tries[i].backend));
      *out++ = ':';
      out = put_what(out, record.tries[i]);
    }
  } else if (record.backend) {
    out = put(out, backend);
    const bool greeted = record.state == SessionState::relaying ||
                         record.state == SessionState::resetting ||
                         record.state == SessionState::closing;
    out = greeted ? put(out, ":ok") : put(out, ":-");
  } else {
    *out++ = '-';
  }

  out = put(out, " sticky=");
  out = put(out, name_of(record.sticky));
  out = put(out, " queue_s=");
  out = put_seconds(out, record.queue_us);
  out = put(out, " connect_s=");
  out = put_seconds(out, record.connect_us);
  out = put(out, " greeting_s=");
  out = put_seconds(out, record.greeting_us);
  out = put(out, " total_s=");
  out = put_seconds(out, record.total_us);
  out = put(out, " to_client=");
  out = put_number(out, record.bytes_to_client);
  out = put(out, " to_backend=");
  out = put_number(out, record.bytes_to_backend);
  out = record.early ? put(out, " early=1") : put(out, " early=0");
  out = record.client_spoke_last ? put(out, " spoke_last=client") : put(out, " spoke_last=server");
  out = put(out, " state=");
  out = put(out, name_of(record.state));
  out = put(out, " close_reason=");
  out = put(out, name_of(record.close_reason));
  if (record.close_reason == CloseReason::refused) {
    out = put(out, " refusal=");
    out = put(out, name_of(record.refusal));
  }
  *out++ = '\n';
  return out;
}

char* LineFormatter::session_start(char* out, const SessionStart& start) {
  out = put_time(out, start.started_unix_us);
  out = put(out, "Z info session_start id=");
  out = put_number(out, start.id);
  out = put(out, " client=");
  out = put_address(out, start.client);
  out = put(out, " service=");
  out = put(out, names_.service(start.service));
  out = put(out, " vip=");
  out = put_address(out, start.vip);
  *out++ = '\n';
  return out;
}

// The longest line: words, numbers and six-decimal times stay below 1 KiB with four addresses and
// two names; a try is a name, ':', the longest outcome, two quotes, and 80 bytes escaped as four
// each.
static_assert(1024 + 2 * NameTable::kNameBytesMax +
                  kTriesMax * (NameTable::kNameBytesMax + 32 + 4 * 80) <
              LineFormatter::kLineBytesMax);

}  // namespace poise::log
