#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace poise::mail {

/// Cuts a stream into lines. A line that arrives whole is handed out without a copy; a partial one
/// is kept, at most `max_bytes` of it. A longer line is thrown away up to its end and reported
/// once, so a peer cannot make us grow.
class LineReader {
 public:
  enum class Status : std::uint8_t {
    more,      ///< all bytes taken, no line yet
    line,      ///< `line` is complete
    too_long,  ///< an overlong line has ended; its content is gone
  };

  explicit LineReader(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  /// Takes bytes from the front of `bytes`, up to the next LF. `line` comes without CRLF or LF, and
  /// is valid until the next call and as long as `bytes` is.
  Status next(std::string_view& bytes, std::string_view& line);

  /// Nothing of a line has been taken yet.
  [[nodiscard]] bool at_line_start() const { return (kept_.empty() || handed_out_) && !skipping_; }

  /// What has come of an unfinished line; empty once it is overlong. Valid until the next call.
  [[nodiscard]] std::string_view partial() const {
    return handed_out_ ? std::string_view{} : std::string_view(kept_);
  }

  /// The unfinished line is longer than it may be already: no need to wait for its end.
  [[nodiscard]] bool overlong() const { return skipping_; }

 private:
  std::size_t max_bytes_;
  std::string kept_;
  bool handed_out_ = false;  ///< kept_ holds the line of the last call
  bool skipping_ = false;
};

}  // namespace poise::mail
