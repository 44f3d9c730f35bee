#pragma once

#include <string>
#include <string_view>

namespace poise::loadgen {

/// Finds a message's id in its header, as the message arrives in pieces. Keeps at most
/// kMaxHeaderBytes.
class MessageIdFinder {
 public:
  static constexpr std::size_t kMaxHeaderBytes = 65536;

  void add(std::string_view piece);
  /// X-Poise-Load-Id's value, else Message-ID's, else empty; control characters never occur in it.
  /// Valid until reset().
  std::string_view id();
  void reset();

 private:
  std::string header_;
  std::string id_;
  bool complete_ = false;  ///< the header has ended, or our own id has been seen, or it is too long
};

}  // namespace poise::loadgen
