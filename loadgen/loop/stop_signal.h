#pragma once

#include "net/fd.h"

namespace poise::loadgen {

/// SIGINT and SIGTERM as a readable fd, so that the loop ends between two events and the report is
/// whole. The first signal is ours; take() then restores the default, and a second one ends the
/// process at once.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  [[nodiscard]] int fd() const { return fd_.get(); }
  void take();

 private:
  net::Fd fd_;
};

}  // namespace poise::loadgen
