#pragma once

#include <chrono>
#include <string>
#include <utility>

#include "net/fd.h"
#include "poise/result.h"

/// Whether this box may have the addresses, for keepalived's eyes: a file with "0" or "1".
namespace poise::pair {

/// A process of our own that does nothing but look at us: as long as beat(true) is called often
/// enough the file says 0. It says 1 as soon as we say beat(false), say nothing for kSilence (hung,
/// stopped, the machine far too busy) or are gone, and 0 again when we are well again. A frozen
/// process can't say that it is frozen; its sibling can.
class Guard {
 public:
  static constexpr std::chrono::milliseconds kBeat{100}, kSilence{700};

  /// Before any thread is made. The folder must be there and ours.
  static Result<Guard> start(const std::string& track_file);

  /// Never waits.
  void beat(bool serves) const;

 private:
  explicit Guard(net::Fd pipe) : pipe_(std::move(pipe)) {}
  net::Fd pipe_;
};

}  // namespace poise::pair
