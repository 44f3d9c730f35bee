#include "mail/dot_stuffing.h"

#include <cstring>

namespace poise::mail {

void append_stuffed(std::string_view data, std::string& out) {
  out.reserve(out.size() + data.size() + data.size() / 64 + 2);
  bool line_start = true;
  const bool ended = data.empty() || data.ends_with("\r\n");
  while (!data.empty()) {
    if (line_start && data[0] == '.') out.push_back('.');
    const std::size_t lf = data.find('\n');
    const std::size_t taken = lf == std::string_view::npos ? data.size() : lf + 1;
    line_start = taken >= 2 && data.substr(taken - 2, 2) == "\r\n";
    out.append(data.substr(0, taken));
    data.remove_prefix(taken);
  }
  if (!ended) out.append("\r\n");
}

DotReader::Status DotReader::next(std::string_view& bytes, std::string_view& piece) {
  while (!bytes.empty()) {
    switch (state_) {
      case State::line_start:
        if (bytes[0] == '.') {
          bytes.remove_prefix(1);
          state_ = State::dot;
          continue;
        }
        state_ = State::in_line;
        continue;
      case State::dot:
        if (bytes[0] == '\r') {
          bytes.remove_prefix(1);
          state_ = State::dot_cr;
          continue;
        }
        state_ = State::in_line;  // the dot was a doubled one: dropped
        continue;
      case State::dot_cr:
        if (bytes[0] == '\n') {
          bytes.remove_prefix(1);
          state_ = State::ended;
          return Status::end;
        }
        state_ = State::cr;  // a dot, then a CR that is data
        piece = "\r";
        return Status::data;
      case State::cr:
        if (bytes[0] == '\n') {
          piece = bytes.substr(0, 1);
          bytes.remove_prefix(1);
          state_ = State::line_start;
          return Status::data;
        }
        state_ = State::in_line;
        continue;
      case State::in_line: {
        // Up to the first CRLF followed by a dot, in one piece: whole lines are not handed out one
        // by one.
        std::size_t at = 0;
        while (true) {
          const void* found = std::memchr(bytes.data() + at, '\n', bytes.size() - at);
          if (!found) {
            piece = bytes;
            state_ = bytes.ends_with('\r') ? State::cr : State::in_line;
            bytes = {};
            return Status::data;
          }
          at = static_cast<std::size_t>(static_cast<const char*>(found) - bytes.data()) + 1;
          const bool crlf = at >= 2 && bytes[at - 2] == '\r';
          if (crlf && (at == bytes.size() || bytes[at] == '.')) {
            piece = bytes.substr(0, at);
            bytes.remove_prefix(at);
            state_ = State::line_start;
            return Status::data;
          }
          if (at == bytes.size()) {
            piece = bytes;
            bytes = {};
            return Status::data;
          }
        }
      }
      case State::ended:
        return Status::end;
    }
  }
  return state_ == State::ended ? Status::end : Status::more;
}

}  // namespace poise::mail
