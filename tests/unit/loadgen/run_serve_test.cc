// Both loops over real sockets on loopback: every session accounted for, every fault seen by the
// client as what it is.
#include <gtest/gtest.h>

#include <thread>

#include "loadgen/client/run_loop.h"
#include "loadgen/server/serve_loop.h"

namespace poise::loadgen {
namespace {

ServerSpec server_spec(Protocol protocol, std::initializer_list<std::string_view> faults = {}) {
  ServerSpec spec;
  spec.listen = *Address::from_ip("127.0.0.1", 0);
  spec.settings.protocol = protocol;
  spec.settings.name = "mx1";
  for (const std::string_view fault : faults) EXPECT_TRUE(add_fault(fault, spec.faults)) << fault;
  return spec;
}

/// A server on its own thread, which ends when `sessions` sessions have: that is its fault
/// die-after.
class Serving {
 public:
  Serving(ServerSpec spec, std::uint64_t sessions)
      : loop_(with_end(std::move(spec), sessions), Mailbox(3, 30'000), {}, 60 * kSecond) {
    EXPECT_TRUE(loop_.open());
    if (!loop_.spec(0).faults.refuse) thread_ = std::thread([this] { loop_.run(); });
  }
  ~Serving() {
    if (thread_.joinable()) thread_.join();
  }
  const ServerTally& end() {
    if (thread_.joinable()) thread_.join();
    return loop_.tally(0);
  }
  [[nodiscard]] Address address() const { return loop_.address(0); }

 private:
  static std::vector<ServerSpec> with_end(ServerSpec spec, std::uint64_t sessions) {
    spec.faults.die_after = sessions;
    return {std::move(spec)};
  }
  ServeLoop loop_;
  std::thread thread_;
};

struct Outcome {
  Tally tally;
  std::uint64_t active;
};

Outcome run_against(const Address& target, Script script, Pace pace, Patience patience = {}) {
  MessageMaker messages("run", 4096, "a@b", "c@d");
  RunLoop loop(script, messages, {target}, {}, pace, patience, {});
  loop.run([](const RunLoop&) {});
  return {loop.tally(), loop.active()};
}

std::uint64_t failures(const Tally& tally, Failure failure) {
  return tally.failures[static_cast<std::size_t>(failure)];
}

TEST(RunServe, every_session_and_message_is_accounted_for) {
  for (const Protocol protocol :
       {Protocol::smtp, Protocol::submission, Protocol::lmtp, Protocol::imap, Protocol::pop3}) {
    constexpr std::uint64_t kSessions = 200;
    Serving serving(server_spec(protocol), kSessions);
    Script script;
    script.protocol = protocol;
    script.messages = 2;
    const auto [tally, active] =
        run_against(serving.address(), script, {.clients = 20, .sessions = kSessions});
    const ServerTally& served = serving.end();
    EXPECT_EQ(tally.ok, kSessions) << name_of(protocol);
    EXPECT_EQ(tally.failed, 0u);
    EXPECT_EQ(active, 0u);
    EXPECT_EQ(served.sessions, kSessions);
    EXPECT_EQ(served.finished, kSessions);
    EXPECT_EQ(served.broken, 0u);
    EXPECT_EQ(served.duplicates, 0u);
    EXPECT_EQ(served.messages, tally.submits);
    EXPECT_EQ(served.served, tally.fetches);
    EXPECT_EQ(tally.submits + tally.fetches,
              script.protocol == Protocol::imap || script.protocol == Protocol::pop3
                  ? kSessions
                  : 2 * kSessions);
    EXPECT_EQ(served.bytes_in, tally.bytes_sent);
    EXPECT_EQ(served.bytes_out, tally.bytes_received);
    EXPECT_EQ(tally.session.count(), kSessions);
    EXPECT_EQ(tally.by_server.at("mx1"), kSessions);
  }
}

TEST(RunServe, open_loop_starts_all_it_should) {
  Serving serving(server_spec(Protocol::smtp), 100);
  const auto [tally, active] = run_against(
      serving.address(), {}, {.rate = 1000, .duration = kSecond / 10, .max_concurrent = 50});
  EXPECT_EQ(tally.started, 100u);
  EXPECT_EQ(tally.ok, 100u);
}

TEST(RunServe, bigger_than_any_socket_buffer_arrives_whole) {
  Serving serving(server_spec(Protocol::smtp), 4);
  MessageMaker messages("run", 20u << 20, "a@b", "c@d");
  Script script;
  RunLoop loop(script, messages, {serving.address()}, {}, {.clients = 4, .sessions = 4}, {}, {});
  loop.run([](const RunLoop&) {});
  EXPECT_EQ(loop.tally().ok, 4u);
  const ServerTally& served = serving.end();
  EXPECT_EQ(served.messages, 4u);
  EXPECT_NEAR(static_cast<double>(served.message_bytes), 4 * (20u << 20), 64);
}

TEST(RunServe, faults_are_seen_as_what_they_are) {
  struct Case {
    std::initializer_list<std::string_view> faults;
    Protocol protocol;
    Failure failure;  ///< none: the sessions are good all the same
  };
  const Case cases[] = {
      {{"refuse"}, Protocol::smtp, Failure::refused},
      {{"reset"}, Protocol::smtp, Failure::reset_before_greeting},
      {{"close"}, Protocol::smtp, Failure::closed_before_greeting},
      {{"silence"}, Protocol::smtp, Failure::greeting_timeout},
      {{"greet=421"}, Protocol::smtp, Failure::greeting_421},
      {{"greet=554"}, Protocol::smtp, Failure::greeting_5yz},
      {{"greet=421"}, Protocol::imap, Failure::greeting_bye},
      {{"greet=421"}, Protocol::pop3, Failure::greeting_bye},
      {{"greet=nonsense"}, Protocol::imap, Failure::greeting_junk},
      {{"reset-after-reply=0"}, Protocol::smtp, Failure::reset},
      {{"reset-after-reply=2"}, Protocol::smtp, Failure::reset},
      {{"reset-after-quit"}, Protocol::smtp, Failure::none},  // the goodbye arrives, every time
      {{"reset-after-quit"}, Protocol::pop3, Failure::none},
      {{"delay=20"}, Protocol::smtp, Failure::none},
      {{"capacity=500"}, Protocol::smtp, Failure::none},
      {{"capacity=500"}, Protocol::imap, Failure::none},
      {{"trickle=2000"}, Protocol::smtp, Failure::none},
  };
  constexpr std::uint64_t kSessions = 20;
  for (const Case& c : cases) {
    const std::string_view name = *c.faults.begin();
    Serving serving(server_spec(c.protocol, c.faults), kSessions);
    Script script;
    script.protocol = c.protocol;
    Patience patience;
    if (c.failure == Failure::greeting_timeout) patience.greeting = 50 * kMillisecond;
    const auto [tally, active] =
        run_against(serving.address(), script, {.clients = 5, .sessions = kSessions}, patience);
    EXPECT_EQ(tally.ok + tally.failed, kSessions) << name;
    if (c.failure == Failure::none)
      EXPECT_EQ(tally.ok, kSessions) << name;
    else
      EXPECT_EQ(failures(tally, c.failure), kSessions) << name;
    EXPECT_EQ(active, 0u) << name;
    const ServerTally& served = serving.end();
    EXPECT_EQ(served.sessions, c.failure == Failure::refused ? 0 : kSessions) << name;
    EXPECT_EQ(served.active, 0u) << name;
  }
}

TEST(RunServe, server_that_dies_half_way_breaks_what_was_open_and_refuses_the_rest) {
  Serving serving(server_spec(Protocol::smtp), 50);
  const auto [tally, active] = run_against(serving.address(), {}, {.clients = 8, .sessions = 100});
  const ServerTally& served = serving.end();
  EXPECT_TRUE(served.died);
  EXPECT_EQ(tally.ok + tally.failed, 100u);
  EXPECT_GE(tally.ok, 50u - 1);
  EXPECT_LE(tally.ok, served.sessions);
  EXPECT_GT(failures(tally, Failure::refused), 0u);
  EXPECT_LE(tally.submits, served.messages);  // nothing is acknowledged that is not in the books
}

TEST(RunServe, refused_port_is_held) {
  std::vector<ServerSpec> specs{server_spec(Protocol::smtp, {"refuse"})};
  ServeLoop holder(std::move(specs), Mailbox(0, 0), {}, kSecond);
  ASSERT_TRUE(holder.open());
  ServerSpec same = server_spec(Protocol::smtp);
  same.listen = holder.address(0);
  std::vector<ServerSpec> again{same};
  ServeLoop second(std::move(again), Mailbox(0, 0), {}, kSecond);
  const Result<void> opened = second.open();
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().text().find("another server listens there"), std::string::npos);
}

TEST(RunServe, sources_and_targets_take_turns) {
  Serving one(server_spec(Protocol::smtp), 30);
  Serving two(server_spec(Protocol::smtp), 30);
  MessageMaker messages("run", 100, "a@b", "c@d");
  Script script;
  RunLoop loop(script, messages, {one.address(), two.address()},
               {*Address::from_ip("127.0.0.2"), *Address::from_ip("127.0.0.3")},
               {.clients = 4, .sessions = 60}, {}, {});
  loop.run([](const RunLoop&) {});
  EXPECT_EQ(loop.tally().ok, 60u);
  EXPECT_EQ(loop.tally().by_target, (std::vector<std::uint64_t>{30, 30}));
  EXPECT_EQ(one.end().sessions, 30u);
  EXPECT_EQ(two.end().sessions, 30u);
}

}  // namespace
}  // namespace poise::loadgen
