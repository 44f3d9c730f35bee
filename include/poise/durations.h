#pragma once

#include "poise/histogram.h"

namespace poise {

/// How long things took in the sessions of one service, as one worker counted them. Single writer,
/// any reader.
struct ServiceDurations {
  DurationHistogram connect;   ///< to the backend that served it
  DurationHistogram greeting;  ///< from that connection to the first line that was passed on
  DurationHistogram session;   ///< from accept to close, refused ones included
};

}  // namespace poise
