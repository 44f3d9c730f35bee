// The whole log, with its thread, into real descriptors: what arrives, in which order, and what
// happens when the output stalls, is full or has gone. Nothing here waits for a time: a reader
// reads until the end of file, stop() drains.

#include "log/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spdlog/details/log_msg.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <sstream>
#include <thread>

#include "log/fd_sink.h"

namespace poise::log {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::SizeIs;

/// A pipe; what comes out of it is collected by a thread, or left in it.
class Pipe {
 public:
  explicit Pipe(int bytes = 0) {
    EXPECT_EQ(::pipe2(fds_.data(), O_CLOEXEC), 0);
    if (bytes > 0) {
      EXPECT_GE(::fcntl(fds_[1], F_SETPIPE_SZ, bytes), 0);
    }
  }
  ~Pipe() {
    if (reader_.joinable()) finish();
    close_reader();
    close_writer();
  }
  [[nodiscard]] int writer() const { return fds_[1]; }
  void close_reader() { close(fds_[0]); }
  void close_writer() { close(fds_[1]); }
  void read_along() {
    reader_ = std::thread([this] {
      std::array<char, 65536> buffer;
      for (ssize_t n = 0; (n = ::read(fds_[0], buffer.data(), buffer.size())) > 0;) {
        text_.append(buffer.data(), static_cast<std::size_t>(n));
      }
    });
  }
  /// Reads until `lines` lines have come (true) or nothing came for so long that nothing will.
  bool await_lines(std::ptrdiff_t lines) {
    std::array<char, 65536> buffer;
    while (std::count(text_.begin(), text_.end(), '\n') < lines) {
      pollfd readable{fds_[0], POLLIN, 0};
      if (::poll(&readable, 1, 30'000) <= 0) return false;
      const ssize_t n = ::read(fds_[0], buffer.data(), buffer.size());
      if (n <= 0) return false;
      text_.append(buffer.data(), static_cast<std::size_t>(n));
    }
    return true;
  }
  /// After the Log is gone: all that was written.
  std::vector<std::string> finish() {
    close_writer();
    reader_.join();
    EXPECT_TRUE(text_.empty() || text_.back() == '\n');
    std::vector<std::string> lines;
    std::istringstream stream(text_);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
  }

 private:
  static void close(int& fd) {
    if (fd >= 0) ::close(fd);
    fd = -1;
  }
  std::array<int, 2> fds_{-1, -1};
  std::thread reader_;
  std::string text_;
};

Options to(int fd) {
  Options options;
  options.fd = fd;
  return options;
}

SessionRecord session(std::uint64_t id, std::int64_t unix_us = 1'795'287'017'000'000) {
  SessionRecord record;
  record.id = id;
  record.ended_unix_us = unix_us;
  return record;
}

std::uint64_t id_of(const std::string& line) {
  const std::size_t at = line.find(" id=");
  return at == std::string::npos ? UINT64_MAX : std::stoull(line.substr(at + 4));
}

bool is_session(const std::string& line) {
  return line.find(" info session id=") != std::string::npos;
}

TEST(Log, session_and_event_lines_arrive) {
  Pipe pipe;
  pipe.read_along();
  {
    Log log(to(pipe.writer()));
    log.names().set_service(ServiceId{0}, "smtp");
    log.message(Level::info, "before {}", "start");
    SessionSink* worker = log.add_worker();
    ASSERT_TRUE(log.start());
    ASSERT_TRUE(worker->enabled());
    ASSERT_FALSE(worker->start_enabled());
    SessionRecord record = session(1, 0);
    record.service = ServiceId{0};
    worker->write(record);
    log.message(Level::warning, "backend {} up -> down", "mx/mx1");
    log.message(Level::debug, "too much detail");
    log.stop();
    EXPECT_EQ(log.dropped(), 0u);
  }
  constexpr auto kTime = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z ";
  EXPECT_THAT(pipe.finish(),
              ::testing::UnorderedElementsAre(
                  MatchesRegex(std::string(kTime) + "info before start"),
                  MatchesRegex(std::string(kTime) + "warning backend mx/mx1 up -> down"),
                  AllOf(HasSubstr("1970-01-01T00:00:00.000Z info session id=1 "),
                        HasSubstr(" service=smtp "))));
}

TEST(Log, lines_of_all_workers_and_events_go_out_in_the_order_of_time) {
  Pipe pipe;
  pipe.read_along();
  {
    Log log(to(pipe.writer()));
    std::array<SessionSink*, 3> workers{log.add_worker(), log.add_worker(), log.add_worker()};
    for (std::uint64_t id = 1; id <= 300; ++id) {
      workers[id * id % 3]->write(session(id, static_cast<std::int64_t>(id)));
    }
    log.message(Level::info, "now");  // later than 1970
    workers[0]->write(session(301, 4'000'000'000'000'000));
    ASSERT_TRUE(log.start());
    log.stop();
  }
  const std::vector<std::string> lines = pipe.finish();
  ASSERT_THAT(lines, SizeIs(302));
  for (std::uint64_t i = 0; i < 300; ++i) EXPECT_EQ(id_of(lines[i]), i + 1);
  EXPECT_THAT(lines[300], EndsWith("info now"));
  EXPECT_EQ(id_of(lines[301]), 301u);
}

TEST(Log, tries_travel_and_too_many_are_counted) {
  Pipe pipe;
  pipe.read_along();
  {
    Log log(to(pipe.writer()));
    SessionSink* worker = log.add_worker();
    for (std::uint32_t i = 0; i < 40; ++i)
      log.names().set_backend(BackendId{i}, "p", fmt::format("b{}", i));
    std::vector<TryRecord> tries;
    for (std::uint32_t i = 0; i < 40; ++i) {
      tries.push_back({BackendId{i}, i == 39 ? TryOutcome::ok : TryOutcome::reset, {}});
    }
    SessionRecord record = session(1);
    record.tries = std::span(tries).last(2);
    worker->write(record);
    record.tries = tries;
    worker->write(record);
    tries.assign(40, {});  // the memory was the caller's only during write()
    ASSERT_TRUE(log.start());
    log.stop();
  }
  const std::vector<std::string> lines = pipe.finish();
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_THAT(lines[0], HasSubstr(" tries=b38:reset,b39:ok "));
  EXPECT_THAT(lines[1], HasSubstr(" tries=b0:reset,b1:reset,b2:reset,"));
  EXPECT_THAT(lines[1], HasSubstr(",b14:reset,+24,b39:ok "));
}

TEST(Log, start_lines_only_when_asked) {
  Pipe pipe;
  pipe.read_along();
  {
    Options options = to(pipe.writer());
    options.session_start = true;
    Log log(options);
    SessionSink* worker = log.add_worker();
    EXPECT_TRUE(worker->start_enabled());
    worker->write_start({5, 10, {}, {}, {}});
    worker->write(session(5, 20));
    ASSERT_TRUE(log.start());
    log.set_level(Level::info, false);
    EXPECT_FALSE(worker->start_enabled());
    log.stop();
  }
  EXPECT_THAT(
      pipe.finish(),
      ElementsAre("1970-01-01T00:00:00.000Z info session_start id=5 client=- service=- vip=-",
                  HasSubstr(" info session id=5 client=- service=- ")));
}

TEST(Log, level_warning_makes_no_session_lines) {
  Log log(to(-1));
  SessionSink* worker = log.add_worker();
  EXPECT_TRUE(worker->enabled());
  log.set_level(Level::warning, true);
  EXPECT_FALSE(worker->enabled());
  EXPECT_FALSE(worker->start_enabled());
  EXPECT_FALSE(log.enabled(Level::info));
  EXPECT_TRUE(log.enabled(Level::error));
  log.set_level(Level::debug, true);
  EXPECT_TRUE(worker->enabled());
  EXPECT_TRUE(worker->start_enabled());
  log.stop();
  EXPECT_FALSE(worker->enabled());
}

TEST(Log, event_text_cannot_split_a_line_and_is_bounded) {
  Pipe pipe;
  pipe.read_along();
  {
    Log log(to(pipe.writer()));
    log.message(Level::error, "server said {}", "a\nb\x1b\xff ü \"\\");
    log.message(Level::info, "{}", std::string(100'000, 'x'));
    ASSERT_TRUE(log.start());
    log.stop();
  }
  const std::vector<std::string> lines = pipe.finish();
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_THAT(lines[0], EndsWith(" error server said a\\x0ab\\x1b\\xff ü \"\\"));
  EXPECT_THAT(lines[1], EndsWith("info " + std::string(Log::kMessageBytesMax, 'x') + "…"));
}

TEST(Log, full_ring_drops_exactly_what_does_not_fit) {
  Pipe pipe;
  pipe.read_along();
  std::uint64_t dropped = 0;
  constexpr std::size_t kRecordBytes = sizeof(SessionRecord) + 8;
  constexpr std::uint64_t kFits = 4096 / kRecordBytes;
  {
    Options options = to(pipe.writer());
    options.ring_bytes = 4096;
    Log log(options);
    SessionSink* worker = log.add_worker();
    for (std::uint64_t id = 0; id < 1000; ++id) worker->write(session(id));
    dropped = log.dropped();
    ASSERT_TRUE(log.start());
    log.stop();
    EXPECT_EQ(log.dropped(), dropped);
  }
  EXPECT_EQ(dropped, 1000 - kFits);
  const std::vector<std::string> lines = pipe.finish();
  ASSERT_THAT(lines, SizeIs(kFits + 1));
  for (std::uint64_t i = 0; i < kFits; ++i) EXPECT_EQ(id_of(lines[i]), i);
  EXPECT_THAT(
      lines[kFits],
      EndsWith(fmt::format(
          "warning log: {0} lines dropped, {0} since the start: the output took them too slowly",
          dropped)));
}

TEST(Log, full_queue_drops_events) {
  Pipe pipe;
  pipe.read_along();
  {
    Options options = to(pipe.writer());
    options.messages_max = 3;
    Log log(options);
    for (int i = 0; i < 5; ++i) log.message(Level::info, "{}", i);
    EXPECT_EQ(log.dropped(), 2u);
    ASSERT_TRUE(log.start());
    log.stop();
    log.message(Level::info, "after the end");
    EXPECT_EQ(log.dropped(), 3u);
  }
  EXPECT_THAT(pipe.finish(), SizeIs(4));
}

TEST(Log, limited_lines_are_summed_up) {
  Pipe pipe;
  pipe.read_along();
  {
    Log log(to(pipe.writer()));
    ASSERT_TRUE(log.start());
    for (int i = 0; i < 128; ++i)
      log.limited(1, Level::warning, "no ports left for {}", "10.0.0.1");
    log.limited(2, Level::error, "another kind");
    log.stop();
  }
  const std::vector<std::string> lines = pipe.finish();
  ASSERT_THAT(lines, SizeIs(7));
  for (std::size_t i = 0; i < 5; ++i)
    EXPECT_THAT(lines[i], EndsWith("warning no ports left for 10.0.0.1"));
  EXPECT_THAT(lines[5], EndsWith("error another kind"));
  EXPECT_THAT(lines[6], EndsWith("warning … and 123 more like this: no ports left for 10.0.0.1"));
}

TEST(Log, end_of_an_interval_is_told_without_another_line) {
  Pipe pipe;
  Options options = to(pipe.writer());
  options.limited_burst = 1;
  options.limited_interval = std::chrono::milliseconds(1);
  // The thread must wake by itself: the reader blocks until the summary has come.
  Log log(options);
  ASSERT_TRUE(log.start());
  std::string text;
  // An interval may be over before the second line of a pair; some pair is quicker.
  std::thread reader([&] {
    std::array<char, 4096> buffer;
    const std::string proc = fmt::format("/proc/self/fd/{}", pipe.writer());
    const int fd = ::open(proc.c_str(), O_RDONLY | O_CLOEXEC);
    for (ssize_t n = 0; text.find("more like this") == std::string::npos &&
                        (n = ::read(fd, buffer.data(), buffer.size())) > 0;) {
      text.append(buffer.data(), static_cast<std::size_t>(n));
    }
    ::close(fd);
  });
  for (int i = 0; i < 1000; ++i) log.limited(0, Level::info, "x");
  reader.join();
  EXPECT_THAT(text, HasSubstr("… and "));
  log.stop();
}

// The thread sleeps between these lines; each must wake it.
TEST(Log, sleeping_thread_wakes_for_a_single_line) {
  Pipe pipe;
  Options options = to(pipe.writer());
  options.linger = std::chrono::milliseconds(1);
  Log log(options);
  SessionSink* worker = log.add_worker();
  ASSERT_TRUE(log.start());
  for (int i = 1; i <= 200; i += 2) {
    worker->write(session(1));
    ASSERT_TRUE(pipe.await_lines(i));
    log.message(Level::info, "x");
    ASSERT_TRUE(pipe.await_lines(i + 1));
  }
}

// With a nap of an hour nothing comes by the clock: an event line and a ring that is half full end
// it.
TEST(Log, nap_is_ended_by_an_event_and_by_a_half_full_ring) {
  Pipe pipe;
  Options options = to(pipe.writer());
  options.linger = std::chrono::hours(1);
  options.ring_bytes = 4096;
  Log log(options);
  SessionSink* worker = log.add_worker();
  ASSERT_TRUE(log.start());
  constexpr std::ptrdiff_t kHalf =
      4096 / 2 / static_cast<std::ptrdiff_t>(sizeof(SessionRecord) + 8) + 1;
  std::ptrdiff_t lines = 0;
  for (int i = 0; i < 50; ++i) {
    worker->write(session(1));
    log.message(Level::info, "now");
    ASSERT_TRUE(pipe.await_lines(lines += 2));
    for (std::ptrdiff_t n = 0; n < kHalf; ++n) worker->write(session(2));
    ASSERT_TRUE(pipe.await_lines(lines += kHalf));
  }
  EXPECT_EQ(log.dropped(), 0u);
}

// Every record is either read from the pipe, in order, or counted as dropped.
void flood(std::size_t workers_count, std::uint64_t records, std::size_t ring_bytes,
           bool wait_when_full) {
  Pipe pipe;
  pipe.read_along();
  std::uint64_t dropped = 0;
  {
    Options options = to(pipe.writer());
    options.ring_bytes = ring_bytes;
    Log log(options);
    ASSERT_TRUE(log.start());
    std::vector<std::thread> threads;
    for (std::size_t w = 0; w < workers_count; ++w) {
      SessionSink* sink = log.add_worker();
      threads.emplace_back([sink, w, records, wait_when_full] {
        const TryRecord tries[2] = {{BackendId{1}, TryOutcome::busy, {'4', '2', '1'}}, {}};
        for (std::uint64_t i = 0; i < records; ++i) {
          SessionRecord record = session(w * records + i, static_cast<std::int64_t>(i));
          if (i % 10 == 0) record.tries = tries;
          const std::uint64_t before = sink->dropped();
          sink->write(record);
          if (wait_when_full && sink->dropped() != before) std::this_thread::yield();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    log.message(Level::info, "all written");
    log.stop();
    dropped = log.dropped();
  }
  const std::vector<std::string> lines = pipe.finish();
  std::vector<std::uint64_t> last(workers_count, 0);
  std::vector<bool> any(workers_count, false);
  std::uint64_t arrived = 0;
  bool last_words = false;
  for (const std::string& line : lines) {
    if (line.find("info all written") != std::string::npos) last_words = true;
    if (!is_session(line)) continue;
    ++arrived;
    const std::uint64_t id = id_of(line);
    const std::size_t w = id / records;
    ASSERT_LT(w, workers_count);
    ASSERT_TRUE(!any[w] || id > last[w]) << line;
    ASSERT_TRUE(line.ends_with(" close_reason=client_closed")) << line;
    last[w] = id;
    any[w] = true;
  }
  EXPECT_TRUE(last_words);
  EXPECT_EQ(arrived + dropped, records * workers_count);
  EXPECT_GT(arrived, 0u);
}

#ifdef __SANITIZE_THREAD__
constexpr std::uint64_t kManyRecords = 200'000;  // each costs some twenty times as much
#else
constexpr std::uint64_t kManyRecords = 1'000'000;
#endif

TEST(Log, million_records_arrive_in_order_or_are_counted) {
  flood(1, kManyRecords, 1 << 20, true);
}

TEST(Log, many_workers_with_small_rings_lose_nothing_uncounted) {
  flood(4, 50'000, 8192, false);
}

// Nobody reads: the pipe (one page), the thread's buffer and the ring fill up. write() keeps
// returning, for else this test would not end; then the reader comes back and all that was kept
// arrives.
TEST(Log, stalled_output_blocks_nobody_and_recovers) {
  Pipe pipe(4096);
  std::uint64_t written = 0;
  std::uint64_t dropped = 0;
  {
    Options options = to(pipe.writer());
    options.ring_bytes = 64 * 1024;
    options.stop_timeout = std::chrono::minutes(1);
    Log log(options);
    SessionSink* worker = log.add_worker();
    ASSERT_TRUE(log.start());
    while (log.dropped() < 1000) {
      worker->write(session(written++));
      if (log.dropped() == 0) std::this_thread::yield();
    }
    log.message(Level::info, "still here");
    pipe.read_along();
    log.stop();
    dropped = log.dropped();
  }
  const std::vector<std::string> lines = pipe.finish();
  const auto arrived =
      static_cast<std::uint64_t>(std::count_if(lines.begin(), lines.end(), is_session));
  EXPECT_EQ(arrived + dropped, written);
  EXPECT_THAT(lines, Contains(HasSubstr("info still here")));
  EXPECT_THAT(lines, Contains(HasSubstr("lines dropped")));
}

TEST(Log, reader_that_never_comes_back_does_not_hold_stop) {
  Pipe pipe(4096);
  Options options = to(pipe.writer());
  options.stop_timeout = std::chrono::milliseconds(1);
  Log log(options);
  SessionSink* worker = log.add_worker();
  for (std::uint64_t id = 0; id < 1000; ++id) worker->write(session(id));
  ASSERT_TRUE(log.start());
  log.stop();
  EXPECT_GT(log.dropped(), 900u);  // a page holds some 15 lines
  EXPECT_LT(log.dropped(), 1000u);
}

TEST(Log, reader_that_has_gone_costs_lines_and_not_the_process) {
  Pipe pipe;
  pipe.close_reader();
  Log log(to(pipe.writer()));
  SessionSink* worker = log.add_worker();
  ASSERT_TRUE(log.start());
  for (std::uint64_t id = 0; id < 1000; ++id) worker->write(session(id));
  log.message(Level::error, "nobody reads this");
  log.stop();
  EXPECT_EQ(log.dropped(), 1001u);
}

TEST(Log, reader_of_a_socket_that_has_gone_costs_lines_and_not_the_process) {
  std::array<int, 2> fds{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
  ::close(fds[0]);
  {
    Log log(to(fds[1]));
    SessionSink* worker = log.add_worker();
    ASSERT_TRUE(log.start());
    worker->write(session(1));
    log.stop();
    EXPECT_EQ(log.dropped(), 1u);
  }
  ::close(fds[1]);
}

TEST(Log, full_disk_costs_lines_only) {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  {
    Log log(to(full));
    SessionSink* worker = log.add_worker();
    for (std::uint64_t id = 0; id < 1000; ++id) worker->write(session(id));
    ASSERT_TRUE(log.start());
    log.stop();
    EXPECT_EQ(log.dropped(), 1000u);
  }
  ::close(full);
}

TEST(Log, closed_descriptor_costs_lines_only) {
  Log log(to(-1));
  ASSERT_TRUE(log.start());
  log.message(Level::info, "to nowhere");
  log.stop();
  EXPECT_EQ(log.dropped(), 1u);
}

TEST(Log, leaves_the_flags_of_a_shared_descriptor_alone) {
  Pipe pipe;
  const int before = ::fcntl(pipe.writer(), F_GETFL);
  Log log(to(pipe.writer()));
  ASSERT_TRUE(log.start());
  EXPECT_EQ(::fcntl(pipe.writer(), F_GETFL), before);
  log.stop();
}

// A file that may not grow (RLIMIT_FSIZE stands for a full disk that gives back some room later)
// cuts a line in two. The lines after that are whole, and the cut one is counted.
TEST(FdSink, line_cut_by_an_error_does_not_run_into_the_next) {
  char path[] = "/tmp/poise-log-test-XXXXXX";
  const int file = ::mkostemp(path, O_CLOEXEC | O_APPEND);
  ASSERT_GE(file, 0);
  ::unlink(path);
  const auto before_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);

  FdSink sink(file);
  const auto say = [&sink](std::string_view text) {
    char* const at = sink.append_begin(text.size());
    std::copy(text.begin(), text.end(), at);
    sink.append_end(at + text.size());
  };
  const rlimit small{15, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  say("first\nsecond\nthird line\nfourth\n");
  EXPECT_EQ(sink.write_out(), FdSink::Progress::done);
  EXPECT_EQ(sink.last_error(), EFBIG);
  EXPECT_EQ(sink.take_lost_lines(), 2u);
  say("lost too\n");
  EXPECT_EQ(sink.write_out(), FdSink::Progress::done);
  EXPECT_EQ(sink.take_lost_lines(), 1u);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, before_handler);
  say("fifth\n");
  EXPECT_EQ(sink.write_out(), FdSink::Progress::done);
  EXPECT_EQ(sink.take_lost_lines(), 0u);

  std::array<char, 256> buffer{};
  const ssize_t size = ::pread(file, buffer.data(), buffer.size(), 0);
  ::close(file);
  ASSERT_GT(size, 0);
  EXPECT_EQ(std::string(buffer.data(), static_cast<std::size_t>(size)),
            "first\nsecond\nth\nfifth\n");
}

TEST(FdSink, event_line_is_formatted_in_utc) {
  Pipe pipe;
  pipe.read_along();
  {
    FdSink sink(pipe.writer());
    const spdlog::log_clock::time_point time{std::chrono::milliseconds{1'795'287'017'123}};
    sink.log({time, spdlog::source_loc{}, "", spdlog::level::warn, "text"});
    sink.flush();
  }
  EXPECT_THAT(pipe.finish(), ElementsAre("2026-11-21T18:50:17.123Z warning text"));
}

}  // namespace
}  // namespace poise::log
