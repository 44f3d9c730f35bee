#pragma once

#include <string>
#include <vector>

#include "poise/result.h"

/// The command line of Inlab balance 3.57 (`balance [options] port host[:port[:maxc]] [!|%] ...`)
/// as our configuration. Pure but for the system's list of service names.
namespace poise {

struct BalanceLine {
  std::string config;              ///< JSON, as in poise.json; still to be checked by config::load
  std::vector<std::string> notes;  ///< what is done in another way than balance does it
  std::string port, listen;        ///< as numbers and address: they name the control socket
};

/// `arguments` without the program's name. What can't be had is an error that says why, and what to
/// use instead.
///
/// Groups are tiers: the next is used when nobody of the ones before takes sessions, or all are at
/// their maxc. `!` after a group is round_robin, `%` source_hash; a pool has one scheduler, so
/// groups of several servers must agree. The protocol is that of the port.
Result<BalanceLine> parse_balance_line(const std::vector<std::string>& arguments);

}  // namespace poise
