#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "command/draft.h"
#include "poise/result.h"

/// The command line of Inlab balance 3.57 (`balance [options] port host[:port[:maxc]] [!|%] ...`)
/// as our configuration. Pure but for the system's list of service names.
namespace poise {

struct BalanceChannel {
  std::string host;  ///< an address or a name; IPv6 in brackets
  unsigned port = 0;
  unsigned sessions_max = 0;  ///< maxc; 0: any number
  bool enabled = true;
};

struct BalanceGroup {
  std::vector<BalanceChannel> channels;
  bool hash = false;  ///< `%`: by a hash of the client's address; else round robin
};

/// Groups are tiers: the next is used when nobody of the ones before takes sessions, or all are at
/// their maxc.
struct BalanceLine {
  /// balance's own limits.
  static constexpr std::size_t kGroupsMax = 32, kChannelsMax = 64;
  static constexpr unsigned kMaxcMax = 1'000'000;

  enum class Task {
    serve,
    shell,    ///< -i: commands from standard input to the one that serves
    command,  ///< -c: one command
  };
  Task task = Task::serve;
  std::string command;
  unsigned port = 0;
  std::string bind, source;  ///< -b, -B; empty: not given
  unsigned connect_seconds = 5;
  std::optional<unsigned> idle_seconds;  ///< 0: never
  bool debug = false, autodisable = false, foreground = false, v6 = false;
  std::vector<BalanceGroup> groups;
  std::vector<std::string> notes;  ///< what is done in another way than balance does it

  /// The address that names the one that serves, with the port: of several on one machine.
  [[nodiscard]] std::string listen() const;
  /// A channel that is not enabled has weight 0. The protocol is that of the port.
  [[nodiscard]] Draft draft() const;
  /// Of the backend; its pool is "balance".
  static std::string channel_name(std::size_t group, std::size_t channel);
};

/// `arguments` without the program's name. What can't be had is an error that says why, and what to
/// use instead.
Result<BalanceLine> parse_balance_line(const std::vector<std::string>& arguments);

/// A channel as the commands name it: apart from its port.
Result<BalanceChannel> parse_balance_host(const std::string& host, const std::string& port);

/// A number or a service name.
std::optional<unsigned> balance_port(const std::string& text);

}  // namespace poise
