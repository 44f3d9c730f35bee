#pragma once

#include <netinet/in.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "loop.h"

/// The load shapes. Each runs the servers and the clients, marks "begin" and "end" around exactly
/// the counted work (nothing in flight at either), and returns its result.
namespace bench {

enum class Shape : std::uint8_t {
  smtp,       ///< greeting, EHLO, MAIL, RCPT, DATA, body, QUIT; the server closes first
  quit,       ///< greeting, QUIT; the server closes first
  bulk_down,  ///< servers write, clients read
  bulk_up,    ///< clients write, servers read
  ping,       ///< 64 bytes there and back: one at a time per connection, or at a rate
  idle,       ///< many sessions opened and left alone; the servers in a process of their own
};

struct Options {
  Shape shape = Shape::smtp;
  std::vector<sockaddr_in>
      targets;  ///< where clients connect, in turn: the proxy, or the servers directly
  std::vector<sockaddr_in> servers;  ///< where our servers listen
  unsigned connections = 64;         ///< concurrent
  std::uint64_t warmup = 1000;       ///< sessions or pings before "begin"; bytes for bulk
  std::uint64_t count = 5000;      ///< sessions or pings between "begin" and "end"; bytes for bulk
  unsigned rate = 0;               ///< pings a second over all connections; 0: closed loop
  std::chrono::seconds limit{60};  ///< for one phase
};

struct Result {
  std::uint64_t operations = 0;  ///< sessions, pings or bytes that went well, between the marks
  std::uint64_t errors = 0;      ///< over the whole run, warm-up included
  std::string first_error;
  double seconds = 0;
  double own_cpu_seconds = 0;
  double latency_p50_us = 0;  ///< of a session or a ping; 0 for bulk
  double latency_p99_us = 0;
  std::vector<std::uint64_t> accepted;  ///< connections each server accepted, over the whole run
};

Result run_sessions(Loop& loop, const Options& options);
Result run_bulk(Loop& loop, const Options& options);
Result run_ping(Loop& loop, const Options& options);

/// Marks "base" once `warmup` short sessions are over, "held" once all sessions idle, and then
/// counts sessions that died meanwhile as errors; the latency is of a NOOP on 1 % of them, sent at
/// once. `loop` is the clients' only: the servers are forked off.
Result run_idle(Loop& loop, const Options& options);

}  // namespace bench
