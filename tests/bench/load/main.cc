// Client and server in one process, as cheap as they can be, so that the proxy between them is what
// costs. Made to be driven by ../run; by hand: bench_load --by-hand --shape smtp --target
// 127.0.0.1:2500
//   --servers 127.0.0.1:3001,127.0.0.1:3002,127.0.0.1:3003

#include <getopt.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "shapes.h"

namespace {

using bench::Shape;

struct ShapeName {
  const char* name;
  Shape shape;
};
constexpr ShapeName kShapes[] = {{"smtp", Shape::smtp},           {"quit", Shape::quit},
                                 {"bulk-down", Shape::bulk_down}, {"bulk-up", Shape::bulk_up},
                                 {"ping", Shape::ping},           {"idle", Shape::idle}};

constexpr char kUsage[] =
    "usage: bench_load --shape smtp|quit|bulk-down|bulk-up|ping|idle --target "
    "ADDRESS[,ADDRESS...]\n"
    "         --servers ADDRESS[,ADDRESS...] [--connections N] [--warmup N] [--count N] [--rate "
    "N]\n"
    "         [--limit SECONDS] [--probe-ms N] [--by-hand]\n"
    "--warmup and --count are sessions, pings, or bytes (bulk); idle has only --warmup.\n"
    "On stdout come the stages, each waiting for a line on stdin unless --by-hand, and a JSON "
    "line.\n";

Shape parse_shape(const char* name) {
  for (const ShapeName& known : kShapes)
    if (std::strcmp(known.name, name) == 0) return known.shape;
  bench::fail(std::string("no such shape: ") + name);
}

std::uint64_t parse_number(const char* text) {
  char* end = nullptr;
  const unsigned long long value = std::strtoull(text, &end, 10);
  if (end == text || *end != '\0') bench::fail(std::string("not a number: ") + text);
  return value;
}

void raise_fd_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/// The last resort against a run that hangs in a way no phase's limit sees.
void on_alarm(int) {
  constexpr char kMessage[] = "{\"error\": \"the whole run took too long\"}\n";
  if (write(STDOUT_FILENO, kMessage, sizeof kMessage - 1) < 0) _exit(2);
  _exit(1);
}

bench::Result run(bench::Loop& loop, const bench::Options& options) {
  switch (options.shape) {
    case Shape::smtp:
    case Shape::quit:
      return bench::run_sessions(loop, options);
    case Shape::bulk_down:
    case Shape::bulk_up:
      return bench::run_bulk(loop, options);
    case Shape::ping:
      return bench::run_ping(loop, options);
    case Shape::idle:
      return bench::run_idle(loop, options);
  }
  bench::fail("no shape");
}

void print(const bench::Result& result, double probe_before_us, double probe_after_us) {
  std::printf("{\"operations\": %" PRIu64 ", \"errors\": %" PRIu64
              ", \"seconds\": %.6f, \"own_cpu_seconds\": %.6f, \"latency_p50_us\": %.2f, "
              "\"latency_p99_us\": %.2f, \"probe_before_us\": %.4f, \"probe_after_us\": %.4f, "
              "\"accepted\": [",
              result.operations, result.errors, result.seconds, result.own_cpu_seconds,
              result.latency_p50_us, result.latency_p99_us, probe_before_us, probe_after_us);
  for (std::size_t i = 0; i < result.accepted.size(); ++i)
    std::printf("%s%" PRIu64, i > 0 ? ", " : "", result.accepted[i]);
  // Messages are ours or strerror's: no quotes, no control characters.
  std::printf("], \"first_error\": \"%s\"}\n", result.first_error.c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const option options_known[] = {{"shape", required_argument, nullptr, 's'},
                                  {"target", required_argument, nullptr, 't'},
                                  {"servers", required_argument, nullptr, 'v'},
                                  {"connections", required_argument, nullptr, 'c'},
                                  {"warmup", required_argument, nullptr, 'w'},
                                  {"count", required_argument, nullptr, 'n'},
                                  {"rate", required_argument, nullptr, 'r'},
                                  {"limit", required_argument, nullptr, 'l'},
                                  {"probe-ms", required_argument, nullptr, 'p'},
                                  {"by-hand", no_argument, nullptr, 'h'},
                                  {nullptr, 0, nullptr, 0}};
  bench::Options options;
  std::chrono::milliseconds probe_time{100};
  bool by_hand = false;
  for (int found; (found = getopt_long(argc, argv, "", options_known, nullptr)) != -1;) {
    switch (found) {
      case 's':
        options.shape = parse_shape(optarg);
        break;
      case 't':
        options.targets = bench::parse_addresses(optarg);
        break;
      case 'v':
        options.servers = bench::parse_addresses(optarg);
        break;
      case 'c':
        options.connections = static_cast<unsigned>(parse_number(optarg));
        break;
      case 'w':
        options.warmup = parse_number(optarg);
        break;
      case 'n':
        options.count = parse_number(optarg);
        break;
      case 'r':
        options.rate = static_cast<unsigned>(parse_number(optarg));
        break;
      case 'l':
        options.limit = std::chrono::seconds(parse_number(optarg));
        break;
      case 'p':
        probe_time = std::chrono::milliseconds(parse_number(optarg));
        break;
      case 'h':
        by_hand = true;
        break;
      default:
        std::fputs(kUsage, stderr);
        return 2;
    }
  }
  if (options.targets.empty() || options.servers.empty() || options.connections == 0) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  signal(SIGALRM, on_alarm);
  alarm(static_cast<unsigned>(4 * options.limit.count()));
  raise_fd_limit();

  const double before = bench::speed_probe_us(probe_time);
  bench::Loop loop;
  loop.set_by_hand(by_hand);
  const bench::Result result = run(loop, options);
  print(result, before, bench::speed_probe_us(probe_time));
}
