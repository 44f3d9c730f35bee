#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "loadgen/client/chooser.h"
#include "loadgen/client/script.h"
#include "loadgen/client/sizes.h"
#include "loadgen/loop/time.h"
#include "poise/address.h"
#include "tls/context.h"

namespace poise::loadgen {

/// How sessions come about. Closed loop: `clients` at a time, the next when one ends. Open loop:
/// one every 1/rate seconds, however long the others take, and times are measured from when it
/// *should* have begun, so that a stall cannot hide.
struct Pace {
  unsigned clients = 16;
  double rate = 0;             ///< sessions a second; 0: closed loop
  std::uint64_t sessions = 0;  ///< 0: until `duration`
  Nanos duration = 0;          ///< 0: until `sessions`
  unsigned max_concurrent =
      0;  ///< open loop: a session that finds that many open waits, and its clock runs
};

struct Patience {
  Nanos connect = 30 * kSecond;
  Nanos greeting = 300 * kSecond;
  Nanos session = 30 * kSecond;  ///< from the greeting on, think times not counted
};

/// What a sender does when no host has taken its mail.
struct Retry {
  static constexpr std::size_t kQueueMax = 1'000'000;  ///< sessions kept for later; more are lost

  unsigned times = 0;         ///< how often it comes back before it gives up
  Nanos after = 5 * kSecond;  ///< how long it waits each time
};

/// A part of the load: what its sessions do, and how many of all sessions are its.
struct Block {
  Script script;
  double weight = 1;
  Nanos think = 0;  ///< closed loop: a client's pause between two sessions
  std::vector<SizeClass> sizes{{4096, 1}};
  Patience patience;
  std::vector<Target> targets;  ///< empty: the plan's
};

/// All that a run is. `blocks` and the targets of each are not empty.
struct RunPlan {
  std::string run_id = "run";
  std::vector<Block> blocks;
  std::vector<Target> targets;
  ChoiceSettings choice;
  std::vector<Address> sources;  ///< in turn; empty: the kernel's choice
  Pace pace;
  Retry retry;
  std::shared_ptr<const tls::Context> tls;  ///< needed if a script asks for TLS
};

}  // namespace poise::loadgen
