#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace poise::loadgen {

/// Makes the messages of a run: each has a header of its own with a unique id, and all share one
/// body, which is made once.
class MessageMaker {
 public:
  /// `run` must tell this run from every other. `bytes`: of a whole message as it is before dots
  /// are doubled; a header's worth at least.
  MessageMaker(std::string run, std::size_t bytes, std::string sender, std::string recipient);

  /// Begins the next message: returns its id, `<run>-<number>`, and appends its header to `header`.
  std::string next(std::string& header);

  /// What follows every header: the body, dots doubled, and the final dot. Valid as long as this
  /// object.
  [[nodiscard]] std::string_view body() const { return body_; }
  [[nodiscard]] std::uint64_t made() const { return made_; }

 private:
  std::string run_;
  std::string fixed_header_;
  std::string body_;
  std::uint64_t made_ = 0;
};

/// Eight hexadecimal digits that tell one run from another.
std::string random_run_id();

}  // namespace poise::loadgen
