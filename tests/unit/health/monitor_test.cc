#include "health/monitor.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

namespace poise::health {
namespace {

using namespace std::chrono_literals;

/// Greets like an SMTP server, then answers one line and closes; until the end of the test.
class Server {
 public:
  Server() : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof any;
    sockaddr plain{};
    std::memcpy(&plain, &any, sizeof plain);
    EXPECT_EQ(::bind(fd_, &plain, length), 0);
    EXPECT_EQ(::listen(fd_, 16), 0);
    EXPECT_EQ(::getsockname(fd_, &plain, &length), 0);
    std::memcpy(&any, &plain, sizeof any);
    address = *Address::from_ip("127.0.0.1", ntohs(any.sin_port));
    thread_ = std::thread([this] { serve(); });
  }
  ~Server() {
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
  }

  Address address;

 private:
  void serve() {
    for (;;) {
      const int client = ::accept(fd_, nullptr, nullptr);
      if (client < 0) return;
      char line[512];
      (void)!::write(client, "220 test ESMTP\r\n", 16);
      if (::read(client, line, sizeof line) > 0) (void)!::write(client, "221 bye\r\n", 9);
      ::close(client);
    }
  }

  int fd_;
  std::thread thread_;
};

class monitor_thread : public testing::Test {
 protected:
  Target target(std::uint32_t id) {
    Target target;
    target.id = BackendId{id};
    target.pool_id = PoolId{0};
    target.pool = "mx";
    target.name = "mx" + std::to_string(id);
    target.address = server.address;
    target.probe.type = config::ProbeType::smtp;
    target.probe.interval = target.probe.fast_interval = target.probe.down_interval = 100ms;
    target.probe.timeout = 5s;
    target.hostname = "lb.poise.test";
    return target;
  }

  /// Waits until `done` is true of what was reported.
  bool wait(const std::function<bool()>& done) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, 10s, done);
  }

  Server server;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<HealthEvent> events;
  Monitor::Output output() {
    return {.health =
                [this](HealthEvent event) {
                  const std::lock_guard lock(mutex);
                  events.push_back(std::move(event));
                  changed.notify_all();
                },
            .alert = [](config::LogLevel, std::string) {},
            .addresses = [](std::string, std::vector<Address>) {}};
  }

  Monitor monitor{{.node = "lb", .dns_servers = {}, .caps = {}, .make_prober = {}}, output()};
};

TEST_F(monitor_thread, says_what_became_of_each_and_counts_probes) {
  monitor.set_targets({target(0), target(1)});  // before the thread is there
  ASSERT_TRUE(monitor.start());
  ASSERT_TRUE(wait([&] { return events.size() == 2; }));
  EXPECT_EQ(events[0].health, Health::up);
  const auto good = [&](std::uint32_t id) {
    return monitor.stats(BackendId{id})
        .outcomes[static_cast<std::size_t>(ProbeOutcome::good)]
        .get();
  };
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (good(0) < 5 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
  EXPECT_GE(good(0), 5u);
  EXPECT_GE(monitor.probes(PoolId{0}).durations.count(), 5u);
  const auto last = monitor.last(BackendId{0});
  ASSERT_TRUE(last);
  EXPECT_EQ(last->words, "220 test ESMTP");
}

TEST_F(monitor_thread, who_found_no_place_follows_when_one_is_free) {
  Monitor narrow{{.node = "lb",
                  .dns_servers = {},
                  .caps = {.all = 1, .down = 1, .host = 1},
                  .make_prober = {}},
                 output()};
  std::vector<Target> targets;
  for (std::uint32_t id = 0; id < 5; ++id) {
    targets.push_back(target(id));
    targets.back().probe.interval = targets.back().probe.fast_interval = 1h;
  }
  narrow.set_targets(targets);
  ASSERT_TRUE(narrow.start());
  EXPECT_TRUE(wait([&] { return events.size() == 5; })) << events.size();
  narrow.stop();
}

// Its thread may find the wish to stop before it has begun to wait for anything.
TEST_F(monitor_thread, can_be_stopped_the_moment_it_starts) {
  for (int i = 0; i < 300; ++i) {
    Monitor brief{{.node = "lb", .dns_servers = {}, .caps = {}, .make_prober = {}},
                  {.health = [](const HealthEvent&) {},
                   .alert = [](config::LogLevel, const std::string&) {},
                   .addresses = [](const std::string&, const std::vector<Address>&) {}}};
    ASSERT_TRUE(brief.start());
    brief.stop();
  }
}

TEST_F(monitor_thread, probes_by_hand_and_says_when_there_is_nobody) {
  ASSERT_TRUE(monitor.start());
  monitor.set_targets({target(0)});
  std::optional<ProbeRequest> request;
  std::optional<ProbeResult> seen;
  int calls = 0;
  const auto told = [&](std::optional<ProbeRequest> what) {
    const std::lock_guard lock(mutex);
    request = std::move(what);
    ++calls;
    changed.notify_all();
  };
  monitor.request_of(BackendId{0}, true, told);
  ASSERT_TRUE(wait([&] { return calls == 1; }));
  ASSERT_TRUE(request);
  EXPECT_TRUE(request->deep);
  monitor.request_of(BackendId{0}, false, told);
  ASSERT_TRUE(wait([&] { return calls == 2; }));
  ASSERT_TRUE(request);
  EXPECT_FALSE(request->deep);
  monitor.probe(*request, [&](const ProbeResult& result) {
    const std::lock_guard lock(mutex);
    seen = result;
    changed.notify_all();
  });
  ASSERT_TRUE(wait([&] { return seen.has_value(); }));
  EXPECT_TRUE(seen->good());
  EXPECT_FALSE(seen->transcript.empty());
  monitor.request_of(BackendId{7}, false, told);
  ASSERT_TRUE(wait([&] { return calls == 3; }));
  EXPECT_FALSE(request);
}

TEST_F(monitor_thread, many_threads_may_tell_it_things_while_targets_change) {
  ASSERT_TRUE(monitor.start());
  std::vector<std::thread> workers;
  std::atomic<bool> over{false};
  for (std::uint64_t number = 0; number < 3; ++number)
    workers.emplace_back([&, number] {
      while (!over) {
        monitor.passive({BackendId{0}, ProbeOutcome::refused, number});
        monitor.probe_soon(BackendId{1});
        (void)monitor.last(BackendId{0});
        std::this_thread::sleep_for(100us);
      }
    });
  for (std::uint32_t round = 0; round < 50; ++round) {
    std::vector<Target> targets{target(0)};
    for (std::uint32_t more = 1; more <= round % 5; ++more) targets.push_back(target(more));
    monitor.set_targets(std::move(targets));
    std::this_thread::sleep_for(5ms);
  }
  over = true;
  for (std::thread& worker : workers) worker.join();
  EXPECT_TRUE(wait([&] { return !events.empty(); }));
  monitor.stop();
  monitor.stop();
}

}  // namespace
}  // namespace poise::health
