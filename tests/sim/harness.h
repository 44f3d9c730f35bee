#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "proxy/worker.h"
#include "sim_io.h"

namespace poise::sim {

/// What one simulated life of a worker is made of.
struct Scenario {
  std::uint64_t seed = 0;
  unsigned clients = 2;
  unsigned backends = 3;
  bool stop_midway = false;
  bool stalled_readers = false;
  bool failing_connects = true;
  bool scarce = false;          ///< few descriptors, buffers and blocks
  bool gate = false;            ///< backends greet, well or badly, and are judged
  std::chrono::minutes idle{};  ///< one client that is silent so long, an honest backend, and the
                                ///< IMAP profile's timeouts; must be the only one
};

/// Runs a real Worker, Sessions and Pool over SimIo until nothing is left to happen, and checks the
/// invariants: bytes out are a prefix of bytes in, all of them when both sides ended in order; what
/// a server sent before it reset reaches a client that reads; a client's bytes reach one backend at
/// most, but for a ClientHello; bytes to a client come from one backend, or are our refusal; with
/// one client, each backend is asked once, nobody is asked after a verdict, and the last answer of
/// all that answered reaches the client; a finished session's peers saw an end; every slot, place,
/// turn, buffer, block, pipe and descriptor is given back, once; sessions opened = ended. Throws
/// Violation, with the seed in its text.
void run(const Scenario& scenario);

/// How many sessions and of what fate the runs had so far; to see that the simulation reaches what
/// it should.
struct Reached {
  std::uint64_t runs = 0, sessions = 0, complete = 0, replies_before_reset = 0, retried = 0,
                bulk = 0, parked = 0, refused = 0, shed = 0, short_quiet_sends = 0, held = 0,
                passed_on = 0, replayed = 0, refusals_read = 0, early = 0, handed_over = 0;
  std::array<std::uint64_t, kCloseReasonNames.size()> by_reason{};
};
Reached& reached();

}  // namespace poise::sim
