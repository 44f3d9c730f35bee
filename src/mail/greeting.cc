#include "mail/greeting.h"

#include <strings.h>

#include <algorithm>

#include "mail/reply.h"

namespace poise::mail {
namespace {

/// `line` begins with `word` in any case, and the word ends there. RFC 1939 wants capitals in POP3;
/// the client may judge that.
bool begins_with_word(std::string_view line, std::string_view word) {
  if (line.size() < word.size() || strncasecmp(line.data(), word.data(), word.size()) != 0)
    return false;
  return line.size() == word.size() || line[word.size()] == ' ' || line[word.size()] == '\t';
}

GreetingClass classify_smtp(std::string_view line) {
  ReplyLine reply;
  if (!parse_reply_line(line, reply)) return GreetingClass::junk;
  if (reply.code == 220) return GreetingClass::good;
  if (reply.code == 421 && reply.text.starts_with("4.7.")) return GreetingClass::policy_421;
  if (reply.code / 100 == 4) return GreetingClass::temporary;
  if (reply.code / 100 == 5) return GreetingClass::permanent;
  return GreetingClass::junk;
}

GreetingClass classify_imap(
    std::string_view line) {  // RFC 9051 7.1: OK, PREAUTH and BYE are the only greetings
  if (!line.starts_with("* ")) return GreetingClass::junk;
  line.remove_prefix(2);
  if (begins_with_word(line, "OK") || begins_with_word(line, "PREAUTH")) return GreetingClass::good;
  return begins_with_word(line, "BYE") ? GreetingClass::bye : GreetingClass::junk;
}

GreetingClass classify_pop3(std::string_view line) {
  if (begins_with_word(line, "+OK")) return GreetingClass::good;
  return begins_with_word(line, "-ERR") ? GreetingClass::bye : GreetingClass::junk;
}

GreetingClass classify_managesieve(
    std::string_view line) {  // RFC 5804 1.8: capability lines, then OK
  if (line.starts_with('"') || begins_with_word(line, "OK")) return GreetingClass::good;
  return begins_with_word(line, "BYE") || begins_with_word(line, "NO") ? GreetingClass::bye
                                                                       : GreetingClass::junk;
}

/// TLS records that may come first from a server: a handshake (ServerHello), or an alert, its way
/// of saying no.
GreetingClass classify_tls(char first) {
  return first == 0x16 || first == 0x15 ? GreetingClass::good : GreetingClass::junk;
}

/// Whether the first bytes can still become a greeting; looks at a few bytes only.
bool can_become_greeting(Language language, std::string_view received) {
  const auto agrees = [&](std::string_view words) {
    const std::size_t common = std::min(words.size(), received.size());
    return strncasecmp(words.data(), received.data(), common) == 0;
  };
  switch (language) {
    case Language::smtp: {
      for (std::size_t at = 0; at < std::min<std::size_t>(3, received.size()); ++at) {
        if (received[at] < '0' || received[at] > '9') return false;
      }
      return received[0] >= '2' && received[0] <= '5';
    }
    case Language::imap:
      return agrees("* OK") || agrees("* PREAUTH") || agrees("* BYE");
    case Language::pop3:
      return agrees("+OK") || agrees("-ERR");
    case Language::managesieve:
      return agrees("\"") || agrees("OK") || agrees("BYE") || agrees("NO");
    case Language::unknown:
      break;
  }
  return true;
}

}  // namespace

GreetingClass classify_greeting(Protocol protocol, std::string_view line) {
  if (is_implicit_tls(protocol)) return line.empty() ? GreetingClass::junk : classify_tls(line[0]);
  switch (language_of(protocol)) {
    case Language::smtp:
      return classify_smtp(line);
    case Language::imap:
      return classify_imap(line);
    case Language::pop3:
      return classify_pop3(line);
    case Language::managesieve:
      return classify_managesieve(line);
    case Language::unknown:
      break;
  }
  return GreetingClass::good;
}

GreetingScan scan_greeting(Protocol protocol, std::string_view received) {
  const Language language = language_of(protocol);
  if (language == Language::unknown) return {true, GreetingClass::good, {}};
  if (received.empty()) return {};
  if (is_implicit_tls(protocol)) return {true, classify_tls(received[0]), {}};
  if (!can_become_greeting(language, received)) {
    std::string_view line =
        received.substr(0, std::min(received.find('\n'), kMaxGreetingLineBytes));
    if (line.size() == received.size()) line = {};
    if (line.ends_with('\r')) line.remove_suffix(1);
    return {true, GreetingClass::junk, line};
  }
  const std::size_t lf = received.find('\n');
  if (lf == std::string_view::npos || lf > kMaxGreetingLineBytes) {
    if (received.size() > kMaxGreetingLineBytes) return {true, GreetingClass::junk, {}};
    return {};
  }
  std::string_view line = received.substr(0, lf);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return {true, classify_greeting(protocol, line), line};
}

std::string_view greeting_name(Protocol protocol, std::string_view line) {
  if (is_implicit_tls(protocol)) return {};
  switch (language_of(protocol)) {
    case Language::smtp:
      line.remove_prefix(std::min<std::size_t>(4, line.size()));
      break;
    case Language::imap:
    case Language::pop3: {
      if (line.starts_with("* ")) line.remove_prefix(2);
      line.remove_prefix(std::min(line.find(' '), line.size()));
      while (line.starts_with(' ')) line.remove_prefix(1);
      if (line.starts_with('[')) line.remove_prefix(std::min(line.find(']'), line.size() - 1) + 1);
      break;
    }
    case Language::managesieve:
    case Language::unknown:
      return {};
  }
  while (line.starts_with(' ')) line.remove_prefix(1);
  return line.substr(0, line.find(' '));
}

}  // namespace poise::mail
