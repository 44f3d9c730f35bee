#include "loadgen/server/message_id.h"

#include <strings.h>

#include <algorithm>

#include "loadgen/text/body.h"

namespace poise::loadgen {
namespace {

/// The value of the header line `line` if it is named `name`.
bool header_value(std::string_view line, std::string_view name, std::string_view& value) {
  if (line.size() <= name.size() || line[name.size()] != ':') return false;
  if (strncasecmp(line.data(), name.data(), name.size()) != 0) return false;
  value = line.substr(name.size() + 1);
  while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
  while (!value.empty() && (value.back() == ' ' || value.back() == '\t' || value.back() == '\r'))
    value.remove_suffix(1);
  return true;
}

/// A ledger has one id a line: what could break a line, or hide in it, does not get in.
bool is_clean(std::string_view id) {
  return !id.empty() && id.size() <= 998 && std::all_of(id.begin(), id.end(), [](char c) {
    return static_cast<unsigned char>(c) > ' ' && c != 0x7f;
  });
}

}  // namespace

void MessageIdFinder::add(std::string_view piece) {
  if (complete_) return;
  const std::size_t searched = header_.size() > 3 ? header_.size() - 3 : 0;
  header_.append(piece.substr(0, kMaxHeaderBytes - header_.size()));
  std::string_view value;
  const std::size_t first_lf = header_.find('\n');
  // Our own generator puts its id first: nothing more needs to be kept.
  if (first_lf != std::string::npos &&
      header_value(std::string_view(header_).substr(0, first_lf), kIdHeader, value) &&
      is_clean(value)) {
    id_ = value;
    complete_ = true;
    return;
  }
  complete_ = header_.size() >= kMaxHeaderBytes ||
              header_.find("\r\n\r\n", searched) != std::string::npos ||
              header_.find("\n\n", searched) != std::string::npos;
}

std::string_view MessageIdFinder::id() {
  if (!id_.empty()) return id_;
  std::string_view left = header_;
  while (!left.empty()) {
    const std::size_t lf = left.find('\n');
    const std::string_view line = left.substr(0, lf);
    left.remove_prefix(lf == std::string_view::npos ? left.size() : lf + 1);
    if (line.empty() || line == "\r") break;
    std::string_view value;
    if (header_value(line, kIdHeader, value) && is_clean(value)) {
      id_ = value;
      break;
    }
    if (id_.empty() && header_value(line, "Message-ID", value) && is_clean(value)) id_ = value;
  }
  return id_;
}

void MessageIdFinder::reset() {
  if (header_.capacity() > 4096) std::string().swap(header_);
  header_.clear();
  id_.clear();
  complete_ = false;
}

}  // namespace poise::loadgen
