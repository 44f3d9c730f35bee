#include "mail/reply.h"

#include <strings.h>

namespace poise::mail {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace

bool parse_reply_line(std::string_view line, ReplyLine& reply) {
  if (line.size() < 3 || line[0] < '2' || line[0] > '5' || !is_digit(line[1]) || !is_digit(line[2]))
    return false;
  if (line.size() > 3 && line[3] != ' ' && line[3] != '-') return false;
  reply.code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
  reply.last = line.size() == 3 || line[3] == ' ';
  reply.text = line.size() > 3 ? line.substr(4) : std::string_view{};
  return true;
}

ReplyLines::Status ReplyLines::add(std::string_view line) {
  ReplyLine reply;
  // All lines of a reply carry one code (RFC 5321 4.2.1); one that changes it cannot be trusted
  // about where it ends.
  if (malformed_ || !parse_reply_line(line, reply) || (lines_ > 0 && reply.code != code_) ||
      lines_ + 1 > kMaxReplyLines) {
    malformed_ = true;
    return Status::malformed;
  }
  if (lines_++ == 0) {
    text_.clear();
    code_ = reply.code;
  } else if (text_.size() < kMaxTextBytes) {
    text_.push_back('\n');
  }
  if (text_.size() < kMaxTextBytes)
    text_.append(reply.text.substr(0, kMaxTextBytes - text_.size()));
  if (!reply.last) return Status::more;
  lines_ = 0;
  return Status::complete;
}

ReplyReader::Status ReplyReader::next(std::string_view& bytes) {
  while (!malformed_) {
    std::string_view line;
    const LineReader::Status got = reader_.next(bytes, line);
    if (got == LineReader::Status::more) return Status::more;
    const Status status = got == LineReader::Status::line ? lines_.add(line) : Status::malformed;
    if (status == Status::complete) return status;
    malformed_ = status == Status::malformed;
  }
  return Status::malformed;
}

bool ehlo_offers(std::string_view ehlo_text, std::string_view keyword,
                 std::string_view* arguments) {
  std::size_t lf = ehlo_text.find('\n');  // the first line names the server
  while (lf != std::string_view::npos) {
    ehlo_text.remove_prefix(lf + 1);
    lf = ehlo_text.find('\n');
    const std::string_view line = ehlo_text.substr(0, lf);
    if (line.size() < keyword.size() ||
        strncasecmp(line.data(), keyword.data(), keyword.size()) != 0)
      continue;
    // "AUTH=PLAIN" is how servers of the last century, and their imitators, spell "AUTH PLAIN".
    if (line.size() > keyword.size() && line[keyword.size()] != ' ' && line[keyword.size()] != '=')
      continue;
    if (arguments)
      *arguments =
          line.size() > keyword.size() ? line.substr(keyword.size() + 1) : std::string_view{};
    return true;
  }
  return false;
}

}  // namespace poise::mail
