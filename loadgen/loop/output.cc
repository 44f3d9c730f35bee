#include "loadgen/loop/output.h"

#include <algorithm>

#include "poise/check.h"

namespace poise::loadgen {

void Output::append(std::string_view bytes) {
  if (bytes.empty()) return;
  const bool joins = first_ < pieces_.size() && !pieces_.back().shared;
  if (joins)
    pieces_.back().size += bytes.size();
  else
    pieces_.push_back({nullptr, owned_.size(), bytes.size()});
  owned_.append(bytes);
  size_ += bytes.size();
}

void Output::append_shared(std::string_view bytes) {
  if (bytes.empty()) return;
  pieces_.push_back({bytes.data(), 0, bytes.size()});
  size_ += bytes.size();
}

std::size_t Output::front(iovec* vectors, std::size_t count, std::size_t limit) const {
  std::size_t used = 0;
  for (std::size_t at = first_; at < pieces_.size() && used < count && limit > 0; ++at) {
    const std::size_t size = std::min(pieces_[at].size, limit);
    vectors[used++] = {const_cast<char*>(data_of(pieces_[at])), size};  // sendmsg does not write
    limit -= size;
  }
  return used;
}

void Output::consume(std::size_t bytes) {
  CHECK(bytes <= size_);
  size_ -= bytes;
  if (size_ == 0) return clear();
  while (bytes > 0) {
    Piece& piece = pieces_[first_];
    const std::size_t taken = std::min(bytes, piece.size);
    if (piece.shared)
      piece.shared += taken;
    else
      piece.begin += taken;
    piece.size -= taken;
    bytes -= taken;
    if (piece.size == 0) ++first_;
  }
}

void Output::clear() {
  // Capacity stays: the next session in this slot says much the same. A rare large reply is given
  // back.
  if (owned_.capacity() > 16384) std::string().swap(owned_);
  owned_.clear();
  pieces_.clear();
  first_ = 0;
  size_ = 0;
}

std::string Output::text() const {
  std::string joined;
  for (std::size_t at = first_; at < pieces_.size(); ++at)
    joined.append(data_of(pieces_[at]), pieces_[at].size);
  return joined;
}

}  // namespace poise::loadgen
