#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace poise::loadgen {

/// Bytes on their way to a peer: replies that we own, and views of message bodies that outlive the
/// session, so a thousand sessions that each send a 20 MiB message hold it once.
class Output {
 public:
  /// Copied.
  void append(std::string_view bytes);
  /// Not copied: the bytes must stay until they are sent.
  void append_shared(std::string_view bytes);

  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::size_t size() const { return size_; }
  /// Of those, copied ones: what this object costs.
  [[nodiscard]] std::size_t owned_size() const { return owned_.size(); }

  /// Fills at most `count` vectors with at most `limit` bytes from the front; returns how many
  /// vectors.
  std::size_t front(iovec* vectors, std::size_t count, std::size_t limit = SIZE_MAX) const;
  /// Drops bytes from the front: they are sent.
  void consume(std::size_t bytes);
  void clear();

  /// Everything left, joined. For tests.
  [[nodiscard]] std::string text() const;

 private:
  struct Piece {
    const char* shared;  ///< nullptr: owned
    std::size_t begin;   ///< of an owned piece, in owned_
    std::size_t size;
  };
  [[nodiscard]] const char* data_of(const Piece& piece) const {
    return piece.shared ? piece.shared : owned_.data() + piece.begin;
  }

  std::string owned_;
  std::vector<Piece> pieces_;
  std::size_t first_ = 0;  ///< pieces before it are sent
  std::size_t size_ = 0;
};

}  // namespace poise::loadgen
