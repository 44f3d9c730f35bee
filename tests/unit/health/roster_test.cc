#include "health/roster.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace poise::health {
namespace {

using namespace std::chrono_literals;
using testing::Test;

/// A roster whose probes are answered by `answer`, in simulated time.
class Simulated : public Test {
 protected:
  struct Reply {
    ProbeResult result;
    milliseconds takes{20};
  };

  static ProbeResult result(ProbeOutcome outcome, std::string words = "") {
    ProbeResult result;
    result.outcome = outcome;
    result.words = std::move(words);
    return result;
  }
  static ProbeResult good() { return result(ProbeOutcome::good, "220 mx ESMTP"); }
  static ProbeResult refused() { return result(ProbeOutcome::refused, "Connection refused"); }
  static ProbeResult deep_failed() {
    ProbeResult failed = result(ProbeOutcome::step_failed, "451 no database");
    failed.step = "rcpt";
    failed.deep_step_failed = true;
    return failed;
  }
  static ProbeResult auth_failed() {
    ProbeResult failed = deep_failed();
    failed.step = "login";
    failed.words = "NO [AUTHENTICATIONFAILED]";
    failed.auth_failed = true;
    return failed;
  }

  Target target(std::uint32_t number, const std::string& pool = "mx") {
    Target target;
    target.id = BackendId{number};
    target.pool = pool;
    target.name = "mx" + std::to_string(number);
    target.address = *Address::from_ip("10.0.0." + std::to_string(number + 1), 25);
    target.probe.type = config::ProbeType::smtp;
    target.probe.interval = 10s;
    target.probe.fast_interval = 2s;
    target.probe.down_interval = 10s;
    target.probe.timeout = 10s;
    target.passive = {.enabled = true, .fall = 3, .window = 10s, .max_ejected = 0.5};
    return target;
  }

  void watch(unsigned count, const std::function<void(Target&)>& change = {}) {
    std::vector<Target> targets;
    for (std::uint32_t number = 0; number < count; ++number) {
      targets.push_back(target(number));
      if (change) change(targets.back());
    }
    roster.set_targets(targets, now);
  }

  void run(std::chrono::nanoseconds span) {
    const Time end = now + span;
    for (;;) {
      for (Roster::Start& start : roster.take_due(now)) {
        ++probes[start.target->id.value];
        if (start.tier == Tier::deep) ++deep_probes[start.target->id.value];
        starts[start.target->id.value].push_back(now);
        EXPECT_EQ(++running[start.target->id.value], 1) << "two probes of one backend at once";
        Reply reply = answer(start.target->id.value, start.tier);
        underway.emplace(now + reply.takes,
                         std::tuple{start.ticket, start.target->id.value, reply.result});
        most_running = std::max(most_running, roster.running());
      }
      Time next = roster.next_due().value_or(Time::max());
      if (!underway.empty()) next = std::min(next, underway.begin()->first);
      if (next > end) break;
      now = std::max(now, next);
      while (!underway.empty() && underway.begin()->first <= now) {
        const auto [ticket, id, said] = underway.begin()->second;
        underway.erase(underway.begin());
        --running[id];
        roster.concluded(ticket, said, now);
      }
    }
    now = end;
  }

  Health health(std::uint32_t id) { return *roster.health(BackendId{id}); }

  [[nodiscard]] std::string changes(std::uint32_t id) const {
    std::string all;
    for (const HealthEvent& event : events)
      if (event.backend.value == id)
        all += (all.empty() ? "" : "; ") + std::string(name_of(event.before)) + " -> " +
               std::string(name_of(event.health)) + (event.no_new ? " (busy)" : "");
    return all;
  }

  [[nodiscard]] std::string story() const {
    std::string all;
    for (const HealthEvent& event : events)
      all += std::to_string(event.backend.value) + " " + std::string(name_of(event.health)) + ": " +
             event.reason + "\n";
    for (const std::string& alert : alerts) all += alert + "\n";
    return all;
  }

  [[nodiscard]] std::string last_reason(std::uint32_t id) const {
    for (auto event = events.rbegin(); event != events.rend(); ++event)
      if (event->backend.value == id) return event->reason;
    return "none";
  }

  Time now{1000h};
  std::vector<HealthEvent> events;
  std::vector<std::string> alerts;
  std::map<std::uint32_t, int> probes, deep_probes, running;
  std::map<std::uint32_t, std::vector<Time>> starts;
  unsigned most_running = 0;
  std::map<std::uint32_t, std::uint64_t> moved;  ///< bytes to clients
  std::function<Reply(std::uint32_t, Tier)> answer = [](std::uint32_t, Tier) {
    return Reply{good()};
  };
  std::multimap<Time, std::tuple<std::uint64_t, std::uint32_t, ProbeResult>> underway;
  Roster roster{
      "lb1",
      {.health = [this](const HealthEvent& event) { events.push_back(event); },
       .alert = [this](config::LogLevel, std::string text) { alerts.push_back(std::move(text)); },
       .moved = [this](BackendId backend) { return moved[backend.value]; }}};
};

using health_roster = Simulated;

TEST_F(health_roster, first_verdicts_come_in_parallel_at_once) {
  watch(10);
  EXPECT_EQ(health(0), Health::checking);
  run(50ms);
  EXPECT_EQ(most_running, 10u);
  for (std::uint32_t id = 0; id < 10; ++id) EXPECT_EQ(changes(id), "checking -> up");
}

TEST_F(health_roster, a_dead_server_is_out_after_fall_and_back_after_rise) {
  bool dead = false;
  answer = [&](std::uint32_t id, Tier) { return Reply{dead && id == 0 ? refused() : good()}; };
  watch(2);
  run(60s);
  dead = true;
  const Time died = now;
  const int before = probes[0];
  run(16s + 2 * 2s + 100ms);  // the next steady probe, and two fast ones
  EXPECT_EQ(health(0), Health::down);
  EXPECT_EQ(last_reason(0), "3 of 3 failed, last: Connection refused");
  EXPECT_GE(now, died);
  run(100s);
  EXPECT_LE(probes[0] - before, 3 + 11) << "no faster than down_interval while down";
  dead = false;
  run(16s + 2s + 100ms);
  EXPECT_EQ(changes(0), "checking -> up; up -> down; down -> up");
  EXPECT_EQ(last_reason(0), "2 of 2 good, last: 220 mx ESMTP");
  EXPECT_EQ(changes(1), "checking -> up");
}

TEST_F(health_roster, slow_start_is_told_and_ends) {
  bool dead = true;
  answer = [&](std::uint32_t, Tier) { return Reply{dead ? refused() : good()}; };
  watch(1, [](Target& each) { each.slow_start = 30s; });
  run(5s);
  dead = false;
  run(20s);
  EXPECT_EQ(health(0), Health::recovering);
  run(30s);
  EXPECT_EQ(changes(0), "checking -> down; down -> recovering; recovering -> up");
}

TEST_F(health_roster, a_backend_that_joins_a_running_pool_starts_slowly) {
  watch(1, [](Target& each) { each.slow_start = 30s; });
  run(1s);
  watch(2, [](Target& each) { each.slow_start = 30s; });
  run(1s);
  EXPECT_EQ(changes(0), "checking -> up");
  EXPECT_EQ(changes(1), "checking -> recovering");
}

TEST_F(health_roster, busy_takes_no_new_sessions_while_it_says_so) {
  bool busy = false;
  answer = [&](std::uint32_t, Tier) {
    return Reply{busy ? result(ProbeOutcome::busy, "421 too many") : good()};
  };
  watch(1);
  run(30s);
  busy = true;
  run(100s);
  EXPECT_EQ(health(0), Health::up);
  EXPECT_EQ(last_reason(0), "busy, no new sessions while it says so: 421 too many");
  busy = false;
  run(16s);
  EXPECT_EQ(changes(0), "checking -> up; up -> up (busy); up -> up");
}

TEST_F(health_roster, busy_can_mean_down) {
  bool busy = false;
  answer = [&](std::uint32_t, Tier) {
    return Reply{busy ? result(ProbeOutcome::busy, "421 too many") : good()};
  };
  watch(2, [](Target& each) { each.probe.busy = config::ProbeBusy::down; });
  run(30s);
  busy = true;
  run(30s);
  EXPECT_EQ(last_reason(0), "3 of 3 failed, last: 421 too many");
}

TEST_F(health_roster, a_wrong_probe_on_all_is_said_aloud) {
  answer = [&](std::uint32_t, Tier) {
    return Reply{result(ProbeOutcome::rejected, "554 no service for you")};
  };
  watch(3);
  run(5s);
  ASSERT_EQ(alerts.size(), 1u);
  EXPECT_EQ(
      alerts[0],
      "pool mx: all 3 backends are down (mx0: 554 no service for you; mx1: 554 no service for "
      "you; mx2: 554 no service for you). Clients are still tried on them (when_all_down: "
      "try); if the servers work, the probe is wrong");
  answer = [&](std::uint32_t, Tier) { return Reply{good()}; };
  run(30s);
  EXPECT_EQ(alerts.size(), 2u);
}

TEST_F(health_roster, a_clients_good_greeting_stands_in_for_a_cheap_probe) {
  std::atomic<std::int64_t> greeted{0};
  watch(1, [&](Target& each) { each.greeted_ms = &greeted; });
  run(60s);
  const int idle = probes[0];
  for (int i = 0; i < 600; ++i) {
    greeted = std::chrono::duration_cast<milliseconds>(now.time_since_epoch()).count();
    run(1s);
  }
  EXPECT_EQ(probes[0], idle);
  EXPECT_NEAR(static_cast<double>(roster.stood_in()), 60, 2);
  greeted = 1;
  run(600s);
  EXPECT_NEAR(probes[0] - idle, 60, 2);
}

TEST_F(health_roster, nothing_stands_in_when_there_is_a_reason_to_look) {
  std::atomic<std::int64_t> greeted{0};
  watch(1, [&](Target& each) { each.greeted_ms = &greeted; });
  run(60s);
  greeted = std::chrono::duration_cast<milliseconds>(now.time_since_epoch()).count() + 3'600'000;
  const int before = probes[0];
  for (int i = 0; i < 100; ++i) {
    roster.soon(BackendId{0}, now);
    run(100ms);
  }
  EXPECT_NEAR(probes[0] - before, 5, 1) << "one a fast_interval";
}

TEST_F(health_roster, silence_while_clients_are_greeted_is_full_and_not_down) {
  std::atomic<std::int64_t> greeted{0};
  bool full = false;
  answer = [&](std::uint32_t, Tier) {
    return full ? Reply{result(ProbeOutcome::silent, "[no greeting]"), 10s} : Reply{good()};
  };
  watch(2, [&](Target& each) {
    if (each.id.value == 0) each.greeted_ms = &greeted;
  });
  run(1min);
  full = true;
  for (int i = 0; i < 600; ++i) {
    greeted = std::chrono::duration_cast<milliseconds>(now.time_since_epoch()).count();
    roster.soon(BackendId{0}, now);
    run(1s);
  }
  EXPECT_EQ(changes(0), "checking -> up");
  EXPECT_EQ(changes(1), "checking -> up; up -> down") << "nobody is greeted here";
}

// All its processes are held by long sessions: it greets nobody, and its sessions are alive.
TEST_F(health_roster, silence_while_sessions_move_bytes_is_full_and_not_down) {
  bool full = false;
  answer = [&](std::uint32_t, Tier) {
    return full ? Reply{result(ProbeOutcome::silent, "[no greeting]"), 10s} : Reply{good()};
  };
  watch(2);
  run(1min);
  full = true;
  for (int i = 0; i < 60; ++i) {
    moved[0] += 100;
    run(5s);
  }
  EXPECT_EQ(changes(0), "checking -> up");
  EXPECT_EQ(changes(1), "checking -> up; up -> down") << "its sessions are silent too";
}

TEST_F(health_roster, a_flapping_pool_gets_few_lines) {
  bool dead = false;
  answer = [&](std::uint32_t, Tier) {
    dead = !dead;
    return Reply{dead ? refused() : good()};
  };
  watch(1, [](Target& each) {
    each.probe.rise = each.probe.fall = 1;
    each.probe.interval = each.probe.down_interval = each.probe.fast_interval = 1s;
  });
  run(10min);
  EXPECT_GT(events.size(), 100u);
  EXPECT_LE(alerts.size(), 60u);
  EXPECT_TRUE(std::any_of(alerts.begin(), alerts.end(), [](const std::string& alert) {
    return alert.find("lines before it are not logged") != std::string::npos;
  })) << story();
}

// ---- deep tier

class deep_tier : public Simulated {
 protected:
  void watch_deep(unsigned count) {
    watch(count, [](Target& each) {
      each.probe.deep.enabled = true;
      each.probe.deep.interval = 5min;
    });
  }
};

TEST_F(deep_tier, is_rare_and_comes_early_once) {
  watch_deep(3);
  run(11s);
  for (std::uint32_t id = 0; id < 3; ++id) EXPECT_EQ(deep_probes[id], 1);
  run(1h);
  for (std::uint32_t id = 0; id < 3; ++id) EXPECT_NEAR(deep_probes[id], 13, 1);
}

TEST_F(deep_tier, one_backend_that_fails_it_goes_down) {
  answer = [&](std::uint32_t id, Tier tier) {
    return Reply{tier == Tier::deep && id == 1 ? deep_failed() : good()};
  };
  watch_deep(3);
  run(2min);
  EXPECT_EQ(health(1), Health::down);
  EXPECT_EQ(last_reason(1), "deep probe, 3 of 3 failed, last: rcpt: 451 no database");
  EXPECT_EQ(changes(0), "checking -> up");
  EXPECT_TRUE(alerts.empty());
  answer = [&](std::uint32_t, Tier) { return Reply{good()}; };
  run(1min);
  EXPECT_EQ(changes(1), "checking -> up; up -> down; down -> up");
}

TEST_F(deep_tier, failing_on_all_marks_the_pool_suspect_and_takes_nobody_out) {
  bool broken = false;
  answer = [&](std::uint32_t, Tier tier) {
    return Reply{broken && tier == Tier::deep ? deep_failed() : good()};
  };
  watch_deep(3);
  run(17min);
  broken = true;
  run(1h);
  for (std::uint32_t id = 0; id < 3; ++id) EXPECT_EQ(changes(id), "checking -> up");
  EXPECT_TRUE(roster.suspect("mx"));
  ASSERT_EQ(alerts.size(), 1u);
  EXPECT_NE(alerts[0].find("probe_suspect: the deep probe fails on all 3 backends at once"),
            std::string::npos)
      << alerts[0];
  broken = false;
  run(10min);
  EXPECT_FALSE(roster.suspect("mx"));
  for (std::uint32_t id = 0; id < 3; ++id) EXPECT_EQ(changes(id), "checking -> up") << story();
}

TEST_F(deep_tier, an_only_backend_is_never_down_for_it) {
  answer = [&](std::uint32_t, Tier tier) {
    return Reply{tier == Tier::deep ? deep_failed() : good()};
  };
  watch_deep(1);
  run(1h);
  EXPECT_EQ(changes(0), "checking -> up");
  EXPECT_TRUE(roster.suspect("mx"));
}

TEST_F(deep_tier, the_rest_failing_it_too_brings_the_first_one_back) {
  bool all = false;
  answer = [&](std::uint32_t id, Tier tier) {
    return Reply{tier == Tier::deep && (all || id == 0) ? deep_failed() : good()};
  };
  watch_deep(2);
  run(3min);
  EXPECT_EQ(health(0), Health::down);
  all = true;
  run(10min);
  EXPECT_EQ(health(0), Health::up);
  EXPECT_EQ(changes(1), "checking -> up");
}

TEST_F(deep_tier, the_last_good_witness_dying_leaves_the_pool_with_somebody) {
  bool dead = false;
  answer = [&](std::uint32_t id, Tier tier) {
    if (dead && id == 1) return Reply{refused()};
    return Reply{tier == Tier::deep && id == 0 ? deep_failed() : good()};
  };
  watch_deep(2);
  run(3min);
  EXPECT_EQ(health(0), Health::down);
  dead = true;
  run(1min);
  EXPECT_EQ(health(1), Health::down);
  EXPECT_EQ(health(0), Health::up) << "its greeting is good, and nobody passes the deep probe";
}

TEST_F(deep_tier, a_failed_login_latches_and_takes_nobody_out) {
  answer = [&](std::uint32_t, Tier tier) {
    return Reply{tier == Tier::deep ? auth_failed() : good()};
  };
  watch_deep(4);
  run(59min);
  int tried = 0;
  for (const auto& [id, count] : deep_probes) tried += count;
  EXPECT_LE(tried, 1) << "the server counts failed logins too";
  EXPECT_TRUE(roster.latched("mx"));
  EXPECT_EQ(alerts.size(), 1u);
  run(5h);
  tried = 0;
  for (const auto& [id, count] : deep_probes) tried += count;
  EXPECT_EQ(tried, 6) << "one an hour, of the whole pool";
  for (std::uint32_t id = 0; id < 4; ++id) EXPECT_EQ(changes(id), "checking -> up");
  answer = [&](std::uint32_t, Tier) { return Reply{good()}; };
  run(61min);
  EXPECT_FALSE(roster.latched("mx"));
  EXPECT_EQ(alerts.size(), 2u);
  const int before = deep_probes[0];
  run(20min);
  EXPECT_GE(deep_probes[0], before + 3);
}

TEST_F(deep_tier, new_credentials_open_the_latch) {
  answer = [&](std::uint32_t, Tier tier) {
    return Reply{tier == Tier::deep ? auth_failed() : good()};
  };
  watch_deep(2);
  run(1min);
  ASSERT_TRUE(roster.latched("mx"));
  answer = [&](std::uint32_t, Tier) { return Reply{good()}; };
  watch(2, [](Target& each) {
    each.probe.deep.enabled = true;
    each.probe.deep.interval = 5min;
    each.login_password = "new";
  });
  EXPECT_FALSE(roster.latched("mx"));
  run(1min);
  EXPECT_GE(deep_probes[0] + deep_probes[1], 3);
}

// ---- passive

TEST_F(health_roster, clients_failures_eject_at_most_the_share) {
  watch(4);
  run(1s);
  for (std::uint32_t id = 0; id < 4; ++id)
    for (std::uint64_t client = 0; client < 10; ++client)
      roster.passive({BackendId{id}, ProbeOutcome::refused, client}, now);
  int down = 0;
  for (std::uint32_t id = 0; id < 4; ++id) down += health(id) == Health::down;
  EXPECT_EQ(down, 2);
  run(10s);
  for (std::uint32_t id = 0; id < 4; ++id)
    EXPECT_EQ(health(id), Health::up) << "two good probes bring it back";
}

TEST_F(health_roster, clients_failures_never_take_the_last_one) {
  watch(2, [](Target& each) { each.passive.max_ejected = 1; });
  bool dead = true;
  answer = [&](std::uint32_t id, Tier) { return Reply{dead && id == 0 ? refused() : good()}; };
  run(1s);
  EXPECT_EQ(health(0), Health::down);
  for (std::uint64_t client = 0; client < 100; ++client)
    roster.passive({BackendId{1}, ProbeOutcome::refused, client}, now);
  EXPECT_EQ(health(1), Health::up);
}

TEST_F(health_roster, without_a_probe_a_passive_verdict_expires) {
  watch(2, [](Target& each) { each.probe.type = config::ProbeType::off; });
  EXPECT_EQ(health(0), Health::up);
  EXPECT_EQ(last_reason(0), "not probed");
  const auto fail = [&] {
    for (std::uint64_t client = 0; client < 3; ++client)
      roster.passive({BackendId{0}, ProbeOutcome::timeout, client}, now);
  };
  fail();
  EXPECT_EQ(health(0), Health::down);
  EXPECT_EQ(last_reason(0),
            "3 clients' connects failed within 10 s, from several networks, last: timeout");
  run(9s);
  EXPECT_EQ(health(0), Health::down);
  run(2s);
  EXPECT_EQ(health(0), Health::up);
  fail();
  run(19s);
  EXPECT_EQ(health(0), Health::down) << "twice as long the second time";
  run(2s);
  EXPECT_EQ(health(0), Health::up);
  EXPECT_TRUE(probes.empty());
}

// ---- sets

TEST_F(health_roster, unchanged_targets_keep_history_and_due_time) {
  answer = [&](std::uint32_t id, Tier) { return Reply{id == 0 ? refused() : good()}; };
  watch(3);
  run(60s);
  const auto count = events.size();
  const auto due = roster.next_due();
  watch(3);
  EXPECT_EQ(roster.next_due(), due);
  EXPECT_EQ(events.size(), count);
  EXPECT_EQ(health(0), Health::down);
}

TEST_F(health_roster, a_changed_target_keeps_its_health_and_is_probed_anew) {
  answer = [&](std::uint32_t id, Tier) { return Reply{id == 0 ? refused() : good()}; };
  watch(2);
  run(60s);
  const auto count = events.size();
  const auto before = probes;
  watch(2, [](Target& each) { each.probe.interval = 20s; });
  EXPECT_EQ(health(0), Health::down);
  run(100ms);
  EXPECT_EQ(events.size(), count);
  EXPECT_EQ(probes[0], before.at(0) + 1);
  EXPECT_EQ(probes[1], before.at(1) + 1);
}

TEST_F(health_roster, a_target_that_goes_while_it_is_probed_leaves_no_place_taken) {
  answer = [&](std::uint32_t, Tier) { return Reply{good(), 5s}; };
  watch(20);
  run(1s);
  EXPECT_EQ(roster.running(), 20u);
  roster.set_targets({}, now);
  run(10s);
  EXPECT_EQ(roster.running(), 0u);
  EXPECT_TRUE(events.empty());
}

TEST_F(health_roster, our_own_shortage_says_nothing_about_a_server) {
  bool shortage = false;
  answer = [&](std::uint32_t, Tier) {
    ProbeResult said =
        shortage ? result(ProbeOutcome::unreachable, "[out of descriptors]") : good();
    said.local_fault = shortage;
    return Reply{said};
  };
  watch(2);
  run(20s);
  shortage = true;
  run(10min);
  EXPECT_EQ(changes(0), "checking -> up");
}

TEST_F(health_roster, a_name_without_an_address_is_given_a_moment) {
  answer = [&](std::uint32_t, Tier) { return Reply{result(ProbeOutcome::dns, "no address")}; };
  watch(1, [](Target& each) { each.address = Address{}; });
  run(2900ms);
  EXPECT_EQ(health(0), Health::checking);
  run(200ms);
  EXPECT_EQ(health(0), Health::down);
}

// ---- many

TEST_F(health_roster, a_thousand_backends_are_spread_and_do_not_drift) {
  std::vector<Target> targets;
  for (std::uint32_t number = 0; number < 1000; ++number) {
    targets.push_back(target(number % 200));
    targets.back().id = BackendId{number};
    targets.back().name = "b" + std::to_string(number);
    targets.back().host = "host" + std::to_string(number);
    targets.back().probe.interval = 2s;
  }
  roster.set_targets(targets, now);
  run(10s);
  EXPECT_EQ(most_running, 256u) << "the cap";
  most_running = 0;
  const auto before = probes;
  run(200s);
  EXPECT_LT(most_running, 40u) << "20 ms each, 500 a second";
  for (const auto& [id, count] : probes) EXPECT_NEAR(count - before.at(id), 100, 1) << id;
}

TEST_F(health_roster, many_dead_do_not_keep_the_living_from_being_probed) {
  std::vector<Target> targets;
  for (std::uint32_t number = 0; number < 1000; ++number) {
    targets.push_back(target(number % 200));
    targets.back().id = BackendId{number};
    targets.back().name = "b" + std::to_string(number);
    targets.back().host = "host" + std::to_string(number);
  }
  answer = [&](std::uint32_t id, Tier) {
    return id < 900 ? Reply{result(ProbeOutcome::timeout, "timeout"), 10s} : Reply{good()};
  };
  roster.set_targets(targets, now);
  run(120s);
  const auto before = probes;
  run(600s);
  for (std::uint32_t id = 900; id < 1000; ++id) EXPECT_NEAR(probes[id] - before.at(id), 60, 2);
  EXPECT_EQ(most_running, 256u);
}

// Random servers, random times: whatever they say, a change has its count behind it, nobody has two
// probes at once (asserted in run()), and health agrees with the last event.
RC_GTEST_FIXTURE_PROP(health_roster, random_servers, ()) {
  const auto rise = *rc::gen::inRange(1u, 4u), fall = *rc::gen::inRange(1u, 5u);
  std::uint32_t random = *rc::gen::inRange(1u, 1u << 31);
  const auto next = [&] { return (random = random * 1664525 + 1013904223) >> 16; };
  std::map<std::uint32_t, std::vector<bool>> said;
  answer = [&](std::uint32_t id, Tier) {
    const bool is_good = next() % 3 != 0;
    said[id].push_back(is_good);
    return Reply{is_good ? good() : refused(), milliseconds{next() % 5000}};
  };
  watch(3, [&](Target& each) {
    each.probe.rise = rise;
    each.probe.fall = fall;
  });
  run(1h);
  answer = [](std::uint32_t, Tier) { return Reply{good()}; };
  for (std::uint32_t id = 0; id < 3; ++id) {
    // The definition, over what was said (a probe may still be under way).
    for (const bool last_counts : {true, false}) {
      std::size_t changes = 0;
      bool known = false, alive = false;
      unsigned row = 0;
      const std::size_t count = said[id].size() - (last_counts ? 0 : 1);
      for (std::size_t i = 0; i < count; ++i) {
        const bool is_good = said[id][i];
        row = !known || is_good != alive ? row + 1 : 0;
        if (row >= (!known ? 1 : alive ? fall : rise)) {
          known = true;
          alive = is_good;
          row = 0;
          ++changes;
        }
      }
      std::size_t seen = 0;
      for (const HealthEvent& event : events) seen += event.backend.value == id;
      if (seen == changes) goto matched;
    }
    RC_FAIL("changes without their count");
  matched:;
  }
}

}  // namespace
}  // namespace poise::health
