#include "mail/line_reader.h"

namespace poise::mail {
namespace {

std::string_view without_cr(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace

LineReader::Status LineReader::next(std::string_view& bytes, std::string_view& line) {
  if (handed_out_) {
    kept_.clear();
    handed_out_ = false;
  }
  const std::size_t lf = bytes.find('\n');
  if (lf == std::string_view::npos) {
    if (!skipping_) kept_.append(bytes.substr(0, max_bytes_ + 2));
    bytes = {};
    if (kept_.size() > max_bytes_ + 1) {  // one more for the CR
      kept_.clear();
      skipping_ = true;
    }
    return Status::more;
  }
  std::string_view piece = bytes.substr(0, lf);
  bytes.remove_prefix(lf + 1);
  if (skipping_ || kept_.size() + piece.size() > max_bytes_ + 1) {
    kept_.clear();
    skipping_ = false;
    return Status::too_long;
  }
  if (!kept_.empty()) {
    kept_.append(piece);
    handed_out_ = true;
    piece = kept_;
  }
  line = without_cr(piece);
  if (line.size() > max_bytes_) return Status::too_long;
  return Status::line;
}

}  // namespace poise::mail
