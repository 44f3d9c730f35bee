// Both loops over real sockets on loopback: every session accounted for, every fault seen by the
// client as what it is.
#include <gtest/gtest.h>
#include <pthread.h>

#include <csignal>
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
/// die-after. When they never do it dies of its age, and what they came to shows that.
class Serving {
 public:
  Serving(ServerSpec spec, std::uint64_t sessions)
      : loop_(with_end(std::move(spec), sessions), Mailbox(3, 30'000), {}, 60 * kSecond,
              *tls::Context::self_signed_server("mx1")) {
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
  static constexpr Nanos kAgeMax = 120 * kSecond;  // far above what any test takes

  static std::vector<ServerSpec> with_end(ServerSpec spec, std::uint64_t sessions) {
    spec.faults.die_after = sessions;
    spec.faults.die_at = kAgeMax;
    return {std::move(spec)};
  }
  ServeLoop loop_;
  std::thread thread_;
};

struct Outcome {
  Tally tally;
  std::uint64_t active;
};

RunPlan plan_for(std::vector<Address> targets, Script script, Pace pace, Patience patience = {}) {
  RunPlan plan;
  Block& block = plan.blocks.emplace_back();
  block.script = std::move(script);
  block.patience = patience;
  for (const Address& target : targets) plan.targets.push_back({target});
  plan.pace = pace;
  return plan;
}

Outcome run_against(const Address& target, Script script, Pace pace, Patience patience = {}) {
  RunLoop loop(plan_for({target}, std::move(script), pace, patience), {});
  loop.run([](const RunLoop&) {});
  return {loop.tally(), loop.active()};
}

std::uint64_t failures(const Tally& tally, Failure failure) {
  return tally.failures[static_cast<std::size_t>(failure)];
}

TEST(RunServe, every_session_and_message_is_accounted_for) {
  for (const Protocol protocol : {Protocol::smtp, Protocol::submission, Protocol::lmtp,
                                  Protocol::imap, Protocol::pop3, Protocol::managesieve}) {
    constexpr std::uint64_t kSessions = 200;
    Serving serving(server_spec(protocol), kSessions);
    Script script = usual_script(protocol);
    if (is_smtp(protocol)) script.actions.assign(2, {Action::Verb::message});
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
    const std::uint64_t messages = is_smtp(protocol)                   ? 2
                                   : protocol == Protocol::managesieve ? 0
                                                                       : 1;
    EXPECT_EQ(tally.submits + tally.fetches, messages * kSessions);
    EXPECT_EQ(served.bytes_in, tally.bytes_sent);
    EXPECT_EQ(served.bytes_out, tally.bytes_received);
    EXPECT_EQ(tally.session.count(), kSessions);
    EXPECT_EQ(tally.by_server.at("mx1"), kSessions);
  }
}

TEST(RunServe, open_loop_starts_all_it_should) {
  Serving serving(server_spec(Protocol::smtp), 100);
  const auto [tally, active] =
      run_against(serving.address(), usual_script(Protocol::smtp),
                  {.rate = 1000, .duration = kSecond / 10, .max_concurrent = 50});
  EXPECT_EQ(tally.started, 100u);
  EXPECT_EQ(tally.ok, 100u);
}

TEST(RunServe, bigger_than_any_socket_buffer_arrives_whole) {
  Serving serving(server_spec(Protocol::smtp), 4);
  RunPlan plan =
      plan_for({serving.address()}, usual_script(Protocol::smtp), {.clients = 4, .sessions = 4});
  plan.blocks[0].sizes = {{20u << 20, 1}};
  RunLoop loop(std::move(plan), {});
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
      {{"greet=421"}, Protocol::managesieve, Failure::greeting_bye},
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
    const Script script = usual_script(c.protocol);
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
  const auto [tally, active] =
      run_against(serving.address(), usual_script(Protocol::smtp), {.clients = 8, .sessions = 100});
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
  RunPlan plan = plan_for({one.address(), two.address()}, usual_script(Protocol::smtp),
                          {.clients = 4, .sessions = 60});
  plan.sources = {*Address::from_ip("127.0.0.2"), *Address::from_ip("127.0.0.3")};
  RunLoop loop(std::move(plan), {});
  loop.run([](const RunLoop&) {});
  EXPECT_EQ(loop.tally().ok, 60u);
  EXPECT_EQ(loop.tally().by_target[0].attempts, 30u);
  EXPECT_EQ(loop.tally().by_target[1].attempts, 30u);
  EXPECT_EQ(one.end().sessions, 30u);
  EXPECT_EQ(two.end().sessions, 30u);
}

std::shared_ptr<const tls::Context> client_tls() {
  const auto context = tls::Context::client("");
  EXPECT_TRUE(context);
  return *context;
}

TEST(RunServe, tls_carries_every_protocol_either_way) {
  constexpr std::uint64_t kSessions = 20;
  for (const Protocol protocol :
       {Protocol::smtp, Protocol::submission, Protocol::lmtp, Protocol::imap, Protocol::pop3,
        Protocol::managesieve, Protocol::smtps, Protocol::imaps, Protocol::pop3s}) {
    Script script = usual_script(protocol);
    if (script.tls == Tls::none) script.tls = Tls::starttls;
    ServerSpec spec = server_spec(protocol);
    spec.settings.tls = !is_implicit_tls(protocol);
    Serving serving(spec, kSessions);
    RunPlan plan = plan_for({serving.address()}, script, {.clients = 4, .sessions = kSessions});
    plan.blocks[0].sizes = {{300'000, 1}};
    plan.tls = client_tls();
    RunLoop loop(std::move(plan), {});
    loop.run([](const RunLoop&) {});
    const ServerTally& served = serving.end();
    EXPECT_EQ(loop.tally().ok, kSessions) << name_of(protocol);
    EXPECT_EQ(served.tls, kSessions) << name_of(protocol);
    EXPECT_EQ(served.tls_failed, 0u);
    EXPECT_EQ(served.messages, loop.tally().submits);
    EXPECT_EQ(loop.tally().blocks[0].of(Command::tls).answered.count(), kSessions);
  }
}

BlockTally block_of(const Outcome& outcome) {
  return outcome.tally.blocks.at(0);
}

TEST(RunServe, starttls_that_is_not_offered_is_a_tls_failure) {
  Serving serving(server_spec(Protocol::smtp), 1);
  Script script = usual_script(Protocol::smtp);
  script.tls = Tls::starttls;
  RunPlan plan = plan_for({serving.address()}, script, {.clients = 1, .sessions = 1});
  plan.tls = client_tls();
  RunLoop loop(std::move(plan), {});
  loop.run([](const RunLoop&) {});
  EXPECT_EQ(failures(loop.tally(), Failure::tls_failed), 1u);
}

TEST(RunServe, certificate_nobody_vouches_for_is_refused_if_asked) {
  ServerSpec spec = server_spec(Protocol::smtps);
  Serving serving(spec, 1);
  Script script = usual_script(Protocol::smtps);
  script.tls_verify = true;
  RunPlan plan = plan_for({serving.address()}, script, {.clients = 1, .sessions = 1});
  plan.tls = client_tls();
  RunLoop loop(std::move(plan), {});
  loop.run([](const RunLoop&) {});
  EXPECT_EQ(failures(loop.tally(), Failure::tls_failed), 1u);
  EXPECT_EQ(loop.tally().tls_errors.size(), 1u);
}

TEST(RunServe, every_command_is_timed_and_counted) {
  Serving serving(server_spec(Protocol::imap), 5);
  Script script = usual_script(Protocol::imap);
  script.actions.clear();
  for (const std::string_view text : {"select", "fetch*3", "append", "status", "search", "noop",
                                      "idle=20ms", "wait=10ms", "poll=5ms*2"})
    ASSERT_TRUE(add_action(Protocol::imap, text, script.actions)) << text;
  const Outcome outcome = run_against(serving.address(), script, {.clients = 2, .sessions = 5});
  EXPECT_EQ(outcome.tally.ok, 5u);
  BlockTally block = block_of(outcome);
  const auto count = [&](Command command) { return block.of(command).answered.count(); };
  EXPECT_EQ(count(Command::fetch), 15u);
  EXPECT_EQ(count(Command::append), 5u);
  EXPECT_EQ(count(Command::idle), 5u);
  EXPECT_EQ(count(Command::done), 5u);
  EXPECT_EQ(count(Command::noop), 15u);
  EXPECT_EQ(count(Command::quit), 5u);
  EXPECT_EQ(outcome.tally.fetches, 15u);
  EXPECT_EQ(outcome.tally.submits, 5u);
  EXPECT_LT(block.of(Command::idle).answered.max(), 20 * kMillisecond);  // the stay is not in it
  EXPECT_GE(outcome.tally.session.percentile(1), 40 * kMillisecond);
  EXPECT_EQ(serving.end().messages, 5u);
  EXPECT_EQ(serving.end().served, 15u);
}

TEST(RunServe, pop3_deletes_what_it_read) {
  Serving serving(server_spec(Protocol::pop3), 4);
  Script script = usual_script(Protocol::pop3);
  script.actions.clear();
  for (const std::string_view text :
       {"stat", "uidl", "retr", "dele", "retr", "dele", "stat", "retr", "dele", "retr"})
    ASSERT_TRUE(add_action(Protocol::pop3, text, script.actions)) << text;
  const Outcome outcome = run_against(serving.address(), script, {.clients = 2, .sessions = 4});
  EXPECT_EQ(outcome.tally.ok, 4u);
  EXPECT_EQ(outcome.tally.fetches, 12u);  // three messages; the fourth retr has nothing left
  EXPECT_EQ(block_of(outcome).of(Command::dele).answered.count(), 12u);
}

TEST(RunServe, next_host_takes_what_the_first_refuses) {
  for (const std::string_view fault : {"refuse", "greet=421", "greet=554", "close", "reset"}) {
    Serving bad(server_spec(Protocol::smtp, {fault}), 20);
    Serving good(server_spec(Protocol::smtp), 20);
    RunPlan plan = plan_for({bad.address(), good.address()}, usual_script(Protocol::smtp),
                            {.clients = 4, .sessions = 20});
    plan.choice.choice = Choice::mx;
    plan.targets[1].preference = 20;
    RunLoop loop(std::move(plan), {});
    loop.run([](const RunLoop&) {});
    EXPECT_EQ(loop.tally().ok, 20u) << fault;
    EXPECT_EQ(loop.tally().failed, 0u) << fault;
    EXPECT_EQ(loop.tally().fallbacks, 20u) << fault;
    EXPECT_EQ(loop.tally().connection_errors(), 20u) << fault;
    EXPECT_EQ(loop.tally().by_target[0].connection_errors, 20u) << fault;
    EXPECT_EQ(good.end().messages, 20u) << fault;
  }
}

TEST(RunServe, deferred_is_not_lost) {
  // Nobody is there for 150 ms; senders come back after 300.
  ServerSpec spec = server_spec(Protocol::smtp, {"refuse"});
  spec.faults.die_after = 10;
  ServeLoop server(
      {spec}, Mailbox(0, 0), {}, 60 * kSecond, {},
      {{150 * kMillisecond, Event::Kind::heal, "", ""}, {10 * kSecond, Event::Kind::stop, "", ""}});
  ASSERT_TRUE(server.open());
  std::thread thread([&] { server.run(); });
  RunPlan plan =
      plan_for({server.address(0)}, usual_script(Protocol::smtp), {.clients = 10, .sessions = 10});
  plan.choice.choice = Choice::balancer;
  plan.retry = {.times = 20, .after = 300 * kMillisecond};
  RunLoop loop(std::move(plan), {});
  loop.run([](const RunLoop&) {});
  EXPECT_EQ(loop.tally().ok, 10u);
  EXPECT_EQ(loop.tally().failed, 0u);
  EXPECT_EQ(loop.tally().deferred_ok, 10u);
  EXPECT_GE(loop.tally().deferrals, 10u);
  EXPECT_GE(loop.tally().delay.percentile(1), 300 * kMillisecond);
  pthread_kill(thread.native_handle(), SIGTERM);
  thread.join();
  EXPECT_EQ(server.tally(0).messages, 10u);
}

TEST(RunServe, message_of_unknown_fate_is_sent_again_under_its_id) {
  // Answers: EHLO, MAIL, RCPT, DATA, and the message's own 250 is the fifth: it resets before the
  // client can have seen it... or right after: either way no id is new.
  Serving first(server_spec(Protocol::smtp, {"reset-after-reply=4"}), 10);
  Serving second(server_spec(Protocol::smtp), 10);
  RunPlan plan = plan_for({first.address(), second.address()}, usual_script(Protocol::smtp),
                          {.clients = 1, .sessions = 10});
  plan.choice.choice = Choice::mx;
  plan.targets[1].preference = 20;
  RunLoop loop(std::move(plan), {});
  loop.run([](const RunLoop&) {});
  EXPECT_EQ(loop.tally().submits, 10u);
  EXPECT_EQ(second.end().messages, 10u);
  EXPECT_EQ(second.end().duplicates, 0u);
}

TEST(RunServe, stall_shows_in_an_open_loop) {
  // One greeting in the middle of a second takes 200 ms; a loop that waits for it would hide it.
  ServeLoop server({server_spec(Protocol::smtp)}, Mailbox(0, 0), {}, 60 * kSecond, {},
                   {{300 * kMillisecond, Event::Kind::fault, "delay=200", ""},
                    {350 * kMillisecond, Event::Kind::heal, "", ""},
                    {5 * kSecond, Event::Kind::stop, "", ""}});
  ASSERT_TRUE(server.open());
  std::thread thread([&] { server.run(); });
  RunPlan plan = plan_for({server.address(0)}, usual_script(Protocol::smtp),
                          {.rate = 200, .duration = kSecond, .max_concurrent = 1});
  RunLoop loop(std::move(plan), {});
  loop.run([](const RunLoop&) {});
  EXPECT_EQ(loop.tally().ok, 200u);
  // With one session at a time some forty others waited behind it.
  EXPECT_GE(loop.tally().session.percentile(99.9), 195 * kMillisecond);
  EXPECT_GE(loop.tally().session.percentile(95), 50 * kMillisecond);
  EXPECT_LT(loop.tally().session.percentile(50), 50 * kMillisecond);
  pthread_kill(thread.native_handle(), SIGTERM);
  thread.join();
}

TEST(RunServe, refused_command_is_named_in_its_own_row) {
  for (const bool pipelining : {false, true}) {
    Serving serving(server_spec(Protocol::smtp), 3);
    Script script = usual_script(Protocol::smtp);
    script.recipient = "nosuch@example.test";
    script.pipelining = pipelining;
    const Outcome outcome = run_against(serving.address(), script, {.clients = 1, .sessions = 3});
    const auto permanent = static_cast<std::size_t>(Failure::permanent);
    EXPECT_EQ(outcome.tally.failures[permanent], 3u);
    EXPECT_EQ(block_of(outcome).of(Command::rcpt).failures[permanent], 3u);
    EXPECT_EQ(block_of(outcome).of(Command::quit).answered.count(), pipelining ? 0u : 3u);
  }
  ServerSpec spec = server_spec(Protocol::imap);
  spec.settings.password = "right";
  Serving serving(spec, 2);
  const Outcome outcome =
      run_against(serving.address(), usual_script(Protocol::imap), {.clients = 1, .sessions = 2});
  EXPECT_EQ(
      block_of(outcome).of(Command::login).failures[static_cast<std::size_t>(Failure::denied)], 2u);
}

TEST(RunServe, closed_loop_clients_think_between_sessions) {
  Serving serving(server_spec(Protocol::smtp), 6);
  RunPlan plan =
      plan_for({serving.address()}, usual_script(Protocol::smtp), {.clients = 2, .sessions = 6});
  plan.blocks[0].think = 100 * kMillisecond;
  RunLoop loop(std::move(plan), {});
  loop.run([](const RunLoop&) {});
  EXPECT_EQ(loop.tally().ok, 6u);
  EXPECT_GE(loop.elapsed(), 200 * kMillisecond);  // three rounds, two pauses
}

TEST(RunServe, proxy_header_is_demanded_and_counted) {
  ServerSpec spec = server_spec(Protocol::smtp);
  spec.proxy = true;
  Serving serving(spec, 3);
  const Outcome outcome =
      run_against(serving.address(), usual_script(Protocol::smtp), {.clients = 1, .sessions = 3},
                  {.greeting = 100 * kMillisecond});
  EXPECT_EQ(outcome.tally.ok, 0u);  // our client sends none, and waits to be greeted
  EXPECT_EQ(serving.end().proxied, 0u);
}

}  // namespace
}  // namespace poise::loadgen
