// What logging costs: the worker's share (write), the log thread's share (a formatted line), and
// both together with the system calls, as CPU of the whole process per session.

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "log/line.h"
#include "log/log.h"
#include "log/session_sink.h"

namespace {

using namespace poise;

SessionRecord ordinary(bool v6) {
  SessionRecord record;
  record.id = 1'234'567;
  record.ended_unix_us = 1'795'287'017'123'456;
  record.client = *Address::from_ip(v6 ? "2001:db8:1234:5678::9abc" : "203.0.113.77", 43210);
  record.vip = *Address::from_ip(v6 ? "2001:db8::25" : "192.0.2.200", 25);
  record.source = *Address::from_ip(v6 ? "2001:db8:1::1" : "10.0.0.1", 51234);
  record.destination = *Address::from_ip(v6 ? "2001:db8:1::13" : "10.0.0.13", 25);
  record.service = ServiceId{0};
  record.backend = BackendId{0};
  record.connect_us = 123;
  record.greeting_us = 4'567;
  record.total_us = 234'567;
  record.bytes_to_client = 512;
  record.bytes_to_backend = 4'711;
  record.state = SessionState::relaying;
  return record;
}

TryRecord busy() {
  TryRecord made{BackendId{0}, TryOutcome::busy, {}};
  const std::string_view words = "421 4.3.2 mx1.example.org too many connections, try again later";
  words.copy(made.words.data(), words.size());
  return made;
}

/// ns per write() of the worker; emptying the ring is not measured.
void write(benchmark::State& state) {
  log::Levels levels;
  log::Doorbell doorbell;
  log::SessionSink sink(1 << 20, levels, doorbell);
  const std::vector<TryRecord> tries{busy(), TryRecord{}};
  SessionRecord record = ordinary(false);
  if (state.range(0) != 0) record.tries = tries;
  constexpr int kBatch = 1000;
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) {
      ++record.id;
      benchmark::DoNotOptimize(record);
      sink.write(record);
    }
    state.PauseTiming();
    for (sink.refresh(); sink.next_unix_us() != INT64_MAX;) sink.pop();
    state.ResumeTiming();
  }
  if (sink.dropped() != 0) state.SkipWithError("lines were dropped");
  state.counters["per_write"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * kBatch,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(write)->ArgName("retried")->Arg(0)->Arg(1);

void format_line(benchmark::State& state) {
  log::NameTable names;
  names.set_service(ServiceId{0}, "smtp");
  names.set_backend(BackendId{0}, "mx", "mx1");
  log::LineFormatter formatter(names);
  const std::vector<TryRecord> tries{busy(), {BackendId{0}, TryOutcome::ok, {}}};
  log::SessionEnd end{ordinary(state.range(0) != 0), 0};
  if (state.range(1) != 0) end.record.tries = tries;
  std::vector<char> out(log::LineFormatter::kLineBytesMax);
  std::size_t bytes = 0;
  for (auto _ : state) {
    ++end.record.id;
    end.record.ended_unix_us += 80;
    benchmark::DoNotOptimize(end);
    bytes = static_cast<std::size_t>(formatter.session_end(out.data(), end) - out.data());
    benchmark::ClobberMemory();
  }
  state.counters["line_bytes"] = static_cast<double>(bytes);
}
BENCHMARK(format_line)->ArgNames({"v6", "retried"})->Args({0, 0})->Args({1, 0})->Args({0, 1});

/// CPU of worker and log thread together per session, at a pace that the log thread can follow.
void whole(benchmark::State& state, int fd, bool drain) {
  constexpr int kBatch =
      2000;  // below half of the ring: the thread wakes by its own clock, as it mostly does
  log::Options options;
  options.fd = fd;
  log::Log log(options);
  log.names().set_service(ServiceId{0}, "smtp");
  log.names().set_backend(BackendId{0}, "mx", "mx1");
  log::SessionSink* sink = log.add_worker();
  if (!log.start()) return state.SkipWithError("no log thread");
  SessionRecord record = ordinary(false);
  for (auto _ : state) {
    for (int i = 0; i < kBatch; ++i) {
      ++record.id;
      record.ended_unix_us += 80;
      sink->write(record);
    }
    while (!sink->empty()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (drain && ::lseek(fd, 0, SEEK_CUR) > (64 << 20)) {
      static_cast<void>(!::ftruncate(fd, 0));
      ::lseek(fd, 0, SEEK_SET);
    }
  }
  log.stop();
  if (log.dropped() != 0) state.SkipWithError("lines were dropped");
  state.counters["cpu_per_session"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * kBatch,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void whole_to_dev_null(benchmark::State& state) {
  const int fd = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  whole(state, fd, false);
  ::close(fd);
}
BENCHMARK(whole_to_dev_null)->MeasureProcessCPUTime();

void whole_to_file(benchmark::State& state) {
  char path[] = "/tmp/poise-bench-log-XXXXXX";
  const int fd = ::mkostemp(path, O_CLOEXEC);
  ::unlink(path);
  whole(state, fd, true);
  ::close(fd);
}
BENCHMARK(whole_to_file)->MeasureProcessCPUTime();

}  // namespace

BENCHMARK_MAIN();
