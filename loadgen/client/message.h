#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loadgen/client/sizes.h"

namespace poise::loadgen {

/// Makes the messages of a run: each has a header of its own with a unique id, and all of one size
/// share one body, which is made once.
class MessageMaker {
 public:
  /// `run` must tell these messages from all others. Sizes are of a whole message as it is before
  /// dots are doubled; a header's worth at least.
  MessageMaker(std::string run, std::vector<SizeClass> sizes, const std::string& sender,
               const std::string& recipient);
  MessageMaker(std::string run, std::size_t bytes, const std::string& sender,
               const std::string& recipient)
      : MessageMaker(std::move(run), std::vector<SizeClass>{{bytes, 1}}, sender, recipient) {}

  /// Begins the next message: returns its id, `<run>-<number>`, and appends its header to `header`.
  /// `again`: the id of a message to be sent once more; empty: a new one.
  std::string next(std::string& header, std::string again = {});

  /// What follows the header of this message: the body, dots doubled, and the final dot. Valid as
  /// long as this object. The number in the id decides the size.
  [[nodiscard]] std::string_view body(std::string_view id) const;
  /// The body as it is, for protocols that count bytes.
  [[nodiscard]] std::string_view plain_body(std::string_view id);
  [[nodiscard]] std::uint64_t made() const { return made_; }

 private:
  [[nodiscard]] std::size_t class_of(std::string_view id) const;

  std::string run_;
  std::string fixed_header_;
  std::vector<std::size_t> body_bytes_;
  std::vector<double> up_to_;  ///< by class: the share of messages in it and those before it
  std::vector<std::string> bodies_;
  std::vector<std::string> plain_;  ///< made when asked for
  std::uint64_t made_ = 0;
};

/// Eight hexadecimal digits that tell one run from another.
std::string random_run_id();

}  // namespace poise::loadgen
