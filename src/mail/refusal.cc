#include "mail/refusal.h"

#include <algorithm>

#include "poise/check.h"

namespace poise::mail {
namespace {

constexpr std::string_view kQuit = "QUIT";
constexpr std::uint8_t kOther = 0xff;

constexpr std::size_t kHostnameBytesMax = 255;  // RFC 5321 4.5.3.1.2
constexpr std::size_t kTextEnd = kRefusalBytesMax - std::string_view("\"\r\n").size();

/// Of each kind of refusal: how the protocols say it. SMTP codes after RFC 3463; IMAP after RFC
/// 5530, where UNAVAILABLE is the only code that asks to come back later; POP3 after RFC 3206;
/// ManageSieve after RFC 5804 1.3, which has none for "not you".
struct Words {
  std::string_view smtp;
  std::string_view imap;
  std::string_view pop3;
  std::string_view managesieve;
  std::string_view text;
};

constexpr Words kUnavailable{"421 4.3.2", "[UNAVAILABLE]", "[SYS/TEMP]", "(TRYLATER)",
                             "Service temporarily unavailable, please try again later"};
constexpr Words kShuttingDown{"421 4.3.2", "[UNAVAILABLE]", "[SYS/TEMP]", "(TRYLATER)",
                              "Service is shutting down, please try again later"};
constexpr Words kSessions{"421 4.3.2", "[UNAVAILABLE]", "[SYS/TEMP]", "(TRYLATER)",
                          "Too many sessions, please try again later"};
constexpr Words kSourceSessions{"421 4.7.0", "[UNAVAILABLE]", "[SYS/TEMP]", "(TRYLATER)",
                                "Too many sessions from your address, please try again later"};
constexpr Words kSourceRate{"421 4.7.0", "[UNAVAILABLE]", "[SYS/TEMP]", "(TRYLATER)",
                            "Too many new sessions from your address, please try again later"};
constexpr Words kProxyHeader{"421 4.3.5", "[UNAVAILABLE]", "[SYS/TEMP]", "(TRYLATER)",
                             "No valid PROXY header from a trusted proxy"};
constexpr Words kDeniedForNow{"421 4.7.1", "[UNAVAILABLE]", "[SYS/TEMP]", "(TRYLATER)",
                              "Access denied, please try again later"};
constexpr Words kDenied{"554 5.7.1", "[NOPERM]", "[SYS/PERM]", "", "Access denied"};
constexpr Words kEarlyTalker{"554 5.5.1", "[CLIENTBUG]", "[SYS/PERM]", "",
                             "Protocol error: you spoke before the greeting"};

const Words& words_for(const RefusalStyle& style, RefusalReason reason) {
  switch (reason) {
    case RefusalReason::no_backend:
    case RefusalReason::all_failed:
    case RefusalReason::queue_full:
    case RefusalReason::queue_timeout:
    case RefusalReason::resources:
    case RefusalReason::bare:
      return kUnavailable;
    case RefusalReason::shutting_down:
      return kShuttingDown;
    case RefusalReason::sessions:
      return kSessions;
    case RefusalReason::source_sessions:
      return kSourceSessions;
    case RefusalReason::source_rate:
      return kSourceRate;
    case RefusalReason::proxy_header:
      return kProxyHeader;
    case RefusalReason::early_talker:
      return kEarlyTalker;
    case RefusalReason::denied:
    case RefusalReason::banned:
      return style.deny_reply == config::DenyReply::reply_421 ? kDeniedForNow : kDenied;
  }
  return kUnavailable;
}

bool is_silent(const RefusalStyle& style, RefusalReason reason) {
  const bool unwelcome = reason == RefusalReason::denied || reason == RefusalReason::banned;
  return style.protocol == Protocol::tcp || reason == RefusalReason::bare ||
         (unwelcome && style.deny_reply == config::DenyReply::drop);
}

bool is_permanent(const Words& words) {
  return words.smtp.front() == '5';
}

/// Writes into memory that has room for whatever is not cut by put_plain().
class Writer {
 public:
  explicit Writer(std::span<char> out) : out_(out) {}

  void put(std::string_view text) { length_ += text.copy(out_.data() + length_, room()); }

  /// Somebody's words as part of one line of printable ASCII; what would bring the whole above
  /// `length_max` is cut off.
  void put_plain(std::string_view text, std::size_t length_max, bool quoted = false) {
    for (const char c : text) {
      const char shown = c >= ' ' && c <= '~' ? c : c == '\t' || c == '\r' || c == '\n' ? ' ' : '?';
      const bool escaped = quoted && (shown == '"' || shown == '\\');
      if (length_ + (escaped ? 2 : 1) > length_max) return;
      if (escaped) put("\\");
      put({&shown, 1});
    }
  }

  void put_hostname(std::string_view hostname) {
    if (hostname.empty()) return;
    put(" ");
    put_plain(hostname, length_ + kHostnameBytesMax);
  }

  [[nodiscard]] std::size_t length() const { return length_; }

 private:
  [[nodiscard]] std::size_t room() const { return out_.size() - length_; }

  std::span<char> out_;
  std::size_t length_ = 0;
};

}  // namespace

std::size_t write_refusal(std::span<char> out, const RefusalStyle& style, RefusalReason reason) {
  CHECK(out.size() >= kRefusalBytesMax);
  if (is_silent(style, reason)) return 0;
  const Words& words = words_for(style, reason);
  const bool ours = style.text.empty() || is_permanent(words);
  const std::string_view text = ours ? words.text : style.text;
  Writer writer(out);
  if (is_implicit_tls(style.protocol)) {
    // RFC 8446 5.1 and 6: an alert record, version 3.1 (receivers ignore it, old ones expect no
    // more before one is agreed on), two bytes: fatal, internal_error.
    writer.put({"\x15\x03\x01\x00\x02\x02\x50", 7});
    return writer.length();
  }
  switch (language_of(style.protocol)) {
    case Language::smtp:
      writer.put(words.smtp);
      writer.put_hostname(style.hostname);
      writer.put(" ");
      writer.put_plain(text, kTextEnd);
      break;
    case Language::imap:
      writer.put("* BYE ");
      writer.put(words.imap);
      writer.put(" ");
      writer.put_plain(text, kTextEnd);
      break;
    case Language::pop3:
      writer.put("-ERR ");
      writer.put(words.pop3);
      writer.put(" ");
      // fetchmail takes an -ERR without these words for a wrong password, and in time stops asking.
      if (!is_permanent(words) && text != kUnavailable.text) writer.put("Service unavailable: ");
      writer.put_plain(text, kTextEnd);
      break;
    case Language::managesieve:
      writer.put("BYE ");
      writer.put(words.managesieve);
      writer.put(words.managesieve.empty() ? "\"" : " \"");
      writer.put_plain(text, kTextEnd, true);
      writer.put("\"");
      break;
    case Language::unknown:
      return 0;
  }
  writer.put("\r\n");
  return writer.length();
}

bool refusal_awaits_quit(const RefusalStyle& style, RefusalReason reason) {
  return is_smtp(style.protocol) && !is_implicit_tls(style.protocol) && !is_silent(style, reason) &&
         is_permanent(words_for(style, reason));
}

/// Follows the line under way; true when it ends here and was QUIT. RFC 5321 4.1.1: in any case,
/// spaces before the CRLF are tolerated.
bool DeniedDialogue::quits_after(char next) {
  if (next == '\n') return matched_ == kQuit.size();
  if (matched_ == kQuit.size()) {
    if (next != ' ' && next != '\t' && next != '\r') matched_ = kOther;
  } else if (matched_ != kOther) {
    const char upper = next >= 'a' && next <= 'z' ? static_cast<char>(next - 'a' + 'A') : next;
    matched_ = upper == kQuit[matched_] ? static_cast<std::uint8_t>(matched_ + 1) : kOther;
  }
  return false;
}

std::size_t DeniedDialogue::take(std::string_view bytes, std::span<char> out,
                                 std::string_view hostname) {
  CHECK(out.size() >= kReplyBytesMax);
  Writer writer(out);
  for (const char next : bytes) {
    if (finished_) break;
    const bool quit = quits_after(next);
    if (next != '\n') continue;
    matched_ = 0;
    finished_ = quit || commands_ == kCommandsMax;
    if (!finished_) {
      ++commands_;
      writer.put("503 5.5.1 Access denied, all that is left is QUIT\r\n");
      continue;
    }
    writer.put(quit ? "221 2.0.0" : "421 4.7.0");
    writer.put_hostname(hostname);
    writer.put(quit ? " Bye\r\n" : " Too many commands\r\n");
  }
  return writer.length();
}

}  // namespace poise::mail
