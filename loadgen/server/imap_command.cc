#include "loadgen/server/imap_command.h"

#include <algorithm>

#include "loadgen/text/words.h"

namespace poise::loadgen {
namespace {

/// "{12}" or "{12+}" at the end of `line`: cut off.
bool take_literal_mark(std::string_view& line, std::uint64_t& bytes, bool& waits) {
  if (!line.ends_with('}')) return false;
  const std::size_t open = line.rfind('{');
  if (open == std::string_view::npos) return false;
  std::string_view number = line.substr(open + 1, line.size() - open - 2);
  waits = !number.ends_with('+');
  if (!waits) number.remove_suffix(1);
  const auto parsed = parse_number(number);
  if (!parsed) return false;
  bytes = *parsed;
  line = line.substr(0, open);
  return true;
}

}  // namespace

std::string_view ImapCommandReader::tag() const {
  return tokens_.empty() || tokens_[0].kind != ImapToken::Kind::atom ? std::string_view("*")
                                                                     : tokens_[0].text;
}

bool ImapCommandReader::add(ImapToken::Kind kind, std::string_view text) {
  kept_ += text.size() + sizeof(ImapToken);
  if (kept_ > kMaxKeptBytes * 8) return false;
  tokens_.push_back({kind, std::string(text)});
  return true;
}

bool ImapCommandReader::tokenize(std::string_view line) {
  while (!line.empty()) {
    const char c = line[0];
    if (c == ' ') {
      line.remove_prefix(1);
      continue;
    }
    if (c == '(' || c == ')') {
      if (!add(c == '(' ? ImapToken::Kind::open : ImapToken::Kind::close, {})) return false;
      line.remove_prefix(1);
      continue;
    }
    if (c == '"') {
      std::string text;
      std::size_t at = 1;
      for (; at < line.size() && line[at] != '"'; ++at) {
        if (line[at] == '\\' && at + 1 < line.size()) ++at;
        text.push_back(line[at]);
      }
      if (at >= line.size()) return false;  // no closing quote
      if (!add(ImapToken::Kind::string, text)) return false;
      line.remove_prefix(at + 1);
      continue;
    }
    std::size_t end = 0;
    unsigned brackets = 0;
    for (; end < line.size(); ++end) {
      if (line[end] == '[')
        ++brackets;
      else if (line[end] == ']' && brackets > 0)
        --brackets;
      else if (brackets == 0 && (line[end] == ' ' || line[end] == '(' || line[end] == ')'))
        break;
    }
    if (brackets > 0 || !add(ImapToken::Kind::atom, line.substr(0, end))) return false;
    line.remove_prefix(end);
  }
  return true;
}

ImapCommandReader::Status ImapCommandReader::next(std::string_view& bytes,
                                                  std::string_view& piece) {
  while (true) {
    switch (state_) {
      case State::literal_decision:
        return Status::literal;  // the caller has not decided: ask again
      case State::keeping: {
        const std::size_t taken = std::min<std::uint64_t>(literal_left_, bytes.size());
        tokens_.back().text.append(bytes.substr(0, taken));
        bytes.remove_prefix(taken);
        literal_left_ -= taken;
        if (literal_left_ > 0) return Status::more;
        state_ = State::line;
        continue;
      }
      case State::streaming: {
        if (literal_left_ == 0) {
          state_ = State::line;
          continue;
        }
        if (bytes.empty()) return Status::more;
        piece = bytes.substr(0, std::min<std::uint64_t>(literal_left_, bytes.size()));
        bytes.remove_prefix(piece.size());
        literal_left_ -= piece.size();
        return Status::piece;
      }
      case State::line:
        break;
    }
    std::string_view line;
    const mail::LineReader::Status got = lines_.next(bytes, line);
    if (got == mail::LineReader::Status::more) return Status::more;
    if (!begun_) {
      tokens_.clear();
      kept_ = 0;
      begun_ = true;
    }
    if (got == mail::LineReader::Status::too_long) {
      begun_ = false;
      return Status::malformed;
    }
    const bool literal = take_literal_mark(line, literal_left_, literal_waits_);
    if (!tokenize(line)) {
      begun_ = false;
      if (!literal || literal_waits_) return Status::malformed;
      tokens_.resize(std::min<std::size_t>(tokens_.size(), 1));
      state_ = State::streaming;  // it comes whether we like it or not
      return Status::malformed;
    }
    if (literal) {
      state_ = State::literal_decision;
      return Status::literal;
    }
    begun_ = false;
    return Status::command;
  }
}

bool ImapCommandReader::keep_literal() {
  if (literal_left_ > kMaxKeptBytes || kept_ + literal_left_ > kMaxKeptBytes * 8) return false;
  kept_ += literal_left_;
  if (!add(ImapToken::Kind::string, {})) return false;
  state_ = State::keeping;
  return true;
}

void ImapCommandReader::stream_literal() {
  tokens_.push_back({ImapToken::Kind::string, {}});
  state_ = State::streaming;
}

void ImapCommandReader::abandon() {
  state_ = State::line;
  begun_ = false;
}

}  // namespace poise::loadgen
