#include "health/dialogue.h"

#include <fmt/format.h>

#include <algorithm>

#include "health/dialogue/imap.h"
#include "health/dialogue/managesieve.h"
#include "health/dialogue/pop3.h"
#include "health/dialogue/script.h"
#include "health/dialogue/smtp.h"
#include "health/dialogue/tcp.h"
#include "log/escape.h"
#include "mail/greeting.h"
#include "poise/check.h"

namespace poise::health {
namespace {

/// Enough to tell that something is no greeting: the longest beginning is "* PREAUTH".
constexpr std::size_t kTellingBytes = 16;

}  // namespace

std::string printable(std::string_view text, std::size_t max_bytes) {
  while (text.ends_with('\n') || text.ends_with('\r')) text.remove_suffix(1);
  std::string out;
  bool full = false;
  // Escapes make text longer, never shorter: no need to look at what cannot fit.
  text = text.substr(0, max_bytes);
  while (!text.empty() && !full) {
    // The lines of one reply come joined; on one line a space parts them.
    const std::size_t lf = text.find('\n');
    log::escape(text.substr(0, lf), log::Escape::line, [&](std::string_view piece) {
      full = full || out.size() + piece.size() > max_bytes;
      if (!full) out.append(piece);
    });
    if (lf == std::string_view::npos) break;
    if (out.size() < max_bytes) out.push_back(' ');
    text.remove_prefix(lf + 1);
  }
  return out;
}

std::string base64(std::string_view bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i)
      group = group << 8 | (at + i < bytes.size() ? static_cast<std::uint8_t>(bytes[at + i]) : 0u);
    for (std::size_t i = 0; i < 4; ++i)
      out.push_back(at + i <= bytes.size() ? kDigits[group >> (18 - 6 * i) & 63u] : '=');
  }
  return out;
}

std::unique_ptr<Dialogue> Dialogue::make(const ProbeRequest& request) {
  switch (request.type) {
    case config::ProbeType::smtp:
    case config::ProbeType::submission:
    case config::ProbeType::lmtp:
      return std::make_unique<SmtpDialogue>(request);
    case config::ProbeType::imap:
      return std::make_unique<ImapDialogue>(request);
    case config::ProbeType::pop3:
      return std::make_unique<Pop3Dialogue>(request);
    case config::ProbeType::managesieve:
      return std::make_unique<ManageSieveDialogue>(request);
    case config::ProbeType::tcp:
      return std::make_unique<TcpDialogue>(request);
    case config::ProbeType::script:
      return std::make_unique<ScriptDialogue>(request);
    case config::ProbeType::off:
      break;
  }
  CHECK(false);
}

void Dialogue::start() {
  tls_active_ = request_.tls == config::ProbeTls::implicit;
  header_unanswered_ = request_.send_proxy != config::SendProxy::off;
  on_start();
}

void Dialogue::receive(std::string_view bytes) {
  while (!bytes.empty() && want_ == Want::bytes) consume(bytes);
  // RFC 3207 6: what comes in plaintext after the go-ahead was put there by someone else.
  if (!bytes.empty() && want_ == Want::start_tls)
    fail(ProbeOutcome::tls_failed,
         fmt::format("[plaintext after STARTTLS was accepted: {}]", printable(bytes, 80)), false);
}

void Dialogue::consume(std::string_view& bytes) {
  std::string_view line;
  const mail::LineReader::Status status = reader_.next(bytes, line);
  if (status == mail::LineReader::Status::too_long || reader_.overlong())
    return garbage(fmt::format("[a line of more than {} bytes]", kMaxLineBytes));
  if (status == mail::LineReader::Status::more) {
    // What cannot become a greeting any more need not be waited for.
    if (!heard_) {
      const std::string_view so_far = reader_.partial();
      const mail::GreetingScan scan =
          mail::scan_greeting(protocol(), so_far.substr(0, kTellingBytes));
      if (scan.decided && scan.kind == mail::GreetingClass::junk) {
        note_server(so_far);
        garbage(so_far);
      }
    }
    return;
  }
  note_server(line);
  if (!heard_ && mail::classify_greeting(protocol(), line) == mail::GreetingClass::junk)
    return garbage(line);
  heard_ = true;
  // Unfinished lines are bounded by the reader; counting whole ones only keeps the outcome the same
  // however the bytes are cut.
  if (!within_bounds(line.size())) return;
  last_line_ = line.substr(0, ProbeResult::kMaxWordsBytes);
  on_line(line);
}

bool Dialogue::within_bounds(std::size_t line_bytes) {
  reply_bytes_ += line_bytes + 1;
  if (++reply_lines_ > kMaxReplyLines) {
    garbage(fmt::format("[a reply of more than {} lines]", kMaxReplyLines));
    return false;
  }
  if (reply_bytes_ > kMaxReplyBytes) {
    garbage(fmt::format("[a reply of more than {} bytes]", kMaxReplyBytes));
    return false;
  }
  return true;
}

void Dialogue::tls_started() {
  tls_active_ = true;
  want_ = Want::bytes;
  if (!distrusted_.empty()) return fail(ProbeOutcome::certificate, distrusted_);
  on_tls();
}

void Dialogue::distrust(std::string_view why) {
  distrusted_ = why;
}

void Dialogue::ended(End how, std::string_view why) {
  if (want_ == Want::finished) return;
  if (!distrusted_.empty()) return fail(ProbeOutcome::certificate, distrusted_, false);
  const bool cut = how == End::closed || how == End::reset;
  if (how == End::tls_failed) {
    step_ = "tls";
    return fail(ProbeOutcome::tls_failed, fmt::format("[{}]", why), false);
  }
  if (cut && header_unanswered_) return header_refused(why);
  if (leaving_) return finish();
  // The beginning of an answer says more than its absence.
  std::string_view heard = unfinished();
  if (heard.empty() && reply_lines_ > 0) heard = last_line_;
  const std::string words =
      heard.empty() ? fmt::format("[{}]", why) : fmt::format("{} [{}]", printable(heard, 120), why);
  if (how == End::timed_out && !verdict_.greeting_good)
    return fail(ProbeOutcome::silent, words, false);
  const ProbeOutcome outcome = how == End::timed_out ? ProbeOutcome::timeout
                               : how == End::reset   ? ProbeOutcome::reset
                                                     : ProbeOutcome::closed;
  fail(outcome, words, false);
}

void Dialogue::header_refused(std::string_view why) {
  fail(ProbeOutcome::proxy, fmt::format("[{}, after the PROXY header]", why), false);
}

std::vector<TranscriptLine> Dialogue::take_lines() {
  return std::move(lines_);
}

void Dialogue::send(std::string_view step, std::string_view command, std::string_view shown) {
  step_ = step;
  reply_bytes_ = reply_lines_ = 0;
  output_.append(command).append("\r\n");
  note(TranscriptLine::From::us, shown.empty() ? command : shown);
}

void Dialogue::send_raw(std::string_view bytes) {
  reply_bytes_ = reply_lines_ = 0;
  output_.append(bytes);
  note(TranscriptLine::From::us, bytes);
}

void Dialogue::greeting_is_good(std::string_view words) {
  verdict_.greeting_good = true;
  verdict_.words = printable(words);
  if (!distrusted_.empty()) return fail(ProbeOutcome::certificate, distrusted_);
  after_greeting();
}

void Dialogue::leave() {
  leaving_ = true;
  if (goodbye().empty()) return finish();
  send("goodbye", goodbye());
}

void Dialogue::left(bool positive, std::string_view words) {
  if (header_unanswered_ && !positive) return fail(ProbeOutcome::proxy, words, false);
  goodbye_answered_ = positive;
  finish();
}

void Dialogue::finish() {
  verdict_.outcome = ProbeOutcome::good;
  verdict_.step = "done";
  want_ = Want::finished;
}

void Dialogue::fail(ProbeOutcome outcome, std::string_view words, bool say_goodbye) {
  verdict_.outcome = outcome;
  verdict_.words = printable(words);
  verdict_.step = step_;
  if (say_goodbye && !goodbye().empty()) send("goodbye", goodbye());
  want_ = Want::finished;
}

bool Dialogue::may_log_in() {
  if (!tls_active_ && !request_.steps.allow_plain_login) {
    step_ = "login";
    fail(ProbeOutcome::step_failed, "[not logging in without TLS: credentials would be readable]");
    return false;
  }
  const auto unfit = [](const std::string& text) {
    return text.find_first_of(std::string_view("\0\r\n", 3)) != std::string::npos;
  };
  if (unfit(request_.steps.login_user) || unfit(request_.steps.login_password)) {
    step_ = "login";
    fail(ProbeOutcome::step_failed, "[the user or the password contains a line end or NUL]");
    return false;
  }
  return true;
}

void Dialogue::note_server(std::string_view line) {
  note(TranscriptLine::From::server, line);
}

void Dialogue::note(TranscriptLine::From from, std::string_view text) {
  if (!request_.keep_transcript || lines_noted_ > ProbeResult::kMaxTranscriptLines) return;
  const bool last = lines_noted_++ == ProbeResult::kMaxTranscriptLines;
  lines_.push_back(
      {last ? TranscriptLine::From::note : from, {}, last ? "[and more]" : printable(text)});
}

}  // namespace poise::health
