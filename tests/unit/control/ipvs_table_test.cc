// From configuration, health and the operator's wishes to the kernel's table: every rule as a row.
#include "control/ipvs_table.h"

#include <gtest/gtest.h>

#include <string>

#include "control/world.h"

namespace poise::control {
namespace {

using config::Forwarding;

Address address(const char* ip, std::uint16_t port) {
  return Address::from_ip(ip, port).value();
}

const ipvs::ServiceKey kKey = ipvs::ServiceKey::of(address("192.0.2.1", 25));

/// A pool of three, the third of tier 1, behind one service.
class Table : public ::testing::Test {
 protected:
  Table() {
    config::Pool& pool = config_.pools.emplace_back();
    pool.name = "mx";
    for (const char* ip : {"10.0.0.1", "10.0.0.2", "10.0.0.3"}) {
      config::Backend& backend = pool.backends.emplace_back();
      backend.name = ip;
      backend.literal = address(ip, 2525);
    }
    pool.backends[2].tier = 1;
    config::Service& service = config_.services.emplace_back();
    service.name = "smtp";
    service.forwarding = Forwarding::ipvs_nat;
    service.listen = {kKey.address};
    EXPECT_TRUE(world_.next(config_));
  }

  [[nodiscard]] BackendStatus& status(const char* name) {
    return *world_.backends().find(std::string("mx/") + name);
  }

  ipvs::Table table(bool stopping = false, std::set<ipvs::ServiceKey> owned = {}) {
    const auto snapshot = world_.next(config_);
    return ipvs_table({.config = config_,
                       .pools = snapshot->pools,
                       .backends = world_.backends(),
                       .service_admin = world_.service_admin(),
                       .now = now_,
                       .stopping = stopping},
                      owned);
  }

  /// "1:1 2:0" for the servers there are, by the last number of their address, with their weights.
  std::string weights(bool stopping = false) {
    const ipvs::Table all = table(stopping);
    if (!all.contains(kKey)) return "no service";
    std::string text;
    for (const auto& [server, destination] : all.at(kKey).destinations)
      text += (text.empty() ? "" : " ") + std::to_string(server.ip[3]) + ":" +
              std::to_string(destination.weight);
    return text;
  }

  void in_kernel_with(const char* ip, std::uint32_t weight, std::uint32_t active,
                      std::uint32_t inactive = 0) {
    now_.table[kKey].destinations[address(ip, 2525)] = {.weight = weight};
    now_.use[kKey][address(ip, 2525)] = {.active = active, .inactive = inactive, .traffic = {}};
  }

  config::Config config_;
  proxy::Registries registries_;
  log::NameTable names_;
  World world_{registries_, names_};
  ipvs::Reading now_;
};

TEST_F(Table, backup_tier_waits_at_weight_0) {
  EXPECT_EQ(weights(), "1:1 2:1 3:0");
  config_.pools[0].backends[1].weight = 7;
  EXPECT_EQ(weights(), "1:1 2:7 3:0");
}

TEST_F(Table, down_is_weight_0_or_out) {
  status("10.0.0.1").health = Health::down;
  EXPECT_EQ(weights(), "1:0 2:1 3:0");
  config_.pools[0].on_down = config::OnDown::close;
  EXPECT_EQ(weights(), "2:1 3:0");
}

TEST_F(Table, backup_tier_steps_in) {
  status("10.0.0.1").health = status("10.0.0.2").health = Health::down;
  EXPECT_EQ(weights(), "1:0 2:0 3:1");
}

TEST_F(Table, all_down_is_tried_refused_or_left_to_the_proxy) {
  for (BackendStatus& each : world_.backends().all()) each.health = Health::down;
  config_.pools[0].when_all_down = config::WhenAllDown::attempt;
  EXPECT_EQ(weights(), "1:1 2:1 3:0");
  config_.pools[0].when_all_down = config::WhenAllDown::refuse;
  EXPECT_EQ(weights(), "1:0 2:0 3:0");
  config_.services[0].forwarding_fallback = config::ForwardingFallback::proxy;
  EXPECT_EQ(weights(), "no service");
  status("10.0.0.1").health = Health::up;
  EXPECT_EQ(weights(), "1:1 2:0 3:0");
}

TEST_F(Table, draining_stays_at_weight_0_until_its_last_connection_is_over) {
  in_kernel_with("10.0.0.1", 1, 2);
  status("10.0.0.1").admin.admin = Admin::draining;
  EXPECT_EQ(weights(), "1:0 2:1 3:0");
  in_kernel_with("10.0.0.1", 1, 0);  // something may have come while its weight was 1
  EXPECT_EQ(weights(), "1:0 2:1 3:0");
  in_kernel_with("10.0.0.1", 0, 0, 1);  // its server may still be sending
  EXPECT_EQ(weights(), "1:0 2:1 3:0");
  in_kernel_with("10.0.0.1", 0, 0);
  EXPECT_EQ(weights(), "2:1 3:0");
}

TEST_F(Table, disabled_takes_nothing_new_and_keeps_what_it_has) {
  in_kernel_with("10.0.0.1", 0, 5);
  status("10.0.0.1").admin.admin = Admin::disabled;
  EXPECT_EQ(weights(), "1:0 2:1 3:0");
  in_kernel_with("10.0.0.1", 0, 0);
  EXPECT_EQ(weights(), "2:1 3:0");
}

TEST_F(Table, service_that_is_drained_or_disabled_gets_nothing_new) {
  in_kernel_with("10.0.0.1", 1, 3);
  in_kernel_with("10.0.0.2", 0, 0);
  world_.service_admin()["smtp"].admin = Admin::draining;
  EXPECT_EQ(weights(), "1:0");
  in_kernel_with("10.0.0.1", 0, 0);
  EXPECT_EQ(weights(), "");
  config_.services[0].forwarding_fallback = config::ForwardingFallback::proxy;
  EXPECT_EQ(weights(), "no service");  // the proxy refuses in the mail protocol
  in_kernel_with("10.0.0.1", 0, 1);
  EXPECT_EQ(weights(), "1:0");
  world_.service_admin().clear();
  EXPECT_EQ(weights(), "1:1 2:1 3:0");
}

TEST_F(Table, server_no_longer_configured_is_drained) {
  in_kernel_with("10.0.0.9", 1, 1);
  EXPECT_EQ(weights(), "1:1 2:1 3:0 9:0");
  in_kernel_with("10.0.0.9", 0, 0);
  EXPECT_EQ(weights(), "1:1 2:1 3:0");
}

TEST_F(Table, service_no_longer_configured_is_drained_if_it_is_ours) {
  in_kernel_with("10.0.0.1", 0, 1);
  now_.table[kKey].settings.scheduler = "sh";
  config_.services[0].forwarding = Forwarding::proxy;
  EXPECT_TRUE(table().empty());
  const ipvs::Table left = table(false, {kKey});
  ASSERT_TRUE(left.contains(kKey));
  EXPECT_EQ(left.at(kKey).settings.scheduler, "sh");
  EXPECT_EQ(left.at(kKey).destinations.size(), 1u);
  in_kernel_with("10.0.0.1", 0, 0);
  EXPECT_TRUE(table(false, {kKey}).empty());
}

TEST_F(Table, at_the_end_only_those_in_use_stay) {
  in_kernel_with("10.0.0.1", 1, 3);
  in_kernel_with("10.0.0.2", 0, 0);
  EXPECT_EQ(weights(true), "1:0");
}

TEST_F(Table, slow_start_is_a_share_of_the_others_weight) {
  status("10.0.0.2").health = Health::recovering;
  status("10.0.0.2").ramp = 0.1;
  EXPECT_EQ(weights(), "1:20 2:2 3:0");
}

TEST_F(Table, packets_keep_their_port_but_with_nat) {
  EXPECT_TRUE(table().at(kKey).destinations.contains(address("10.0.0.1", 2525)));
  for (const auto forwarding : {Forwarding::ipvs_dr, Forwarding::ipvs_tun}) {
    config_.services[0].forwarding = forwarding;
    EXPECT_TRUE(table().at(kKey).destinations.contains(address("10.0.0.1", 25)));
  }
}

TEST_F(Table, only_a_tunnel_joins_the_families) {
  config_.services[0].listen = {address("2001:db8::1", 25)};
  const ipvs::ServiceKey key = ipvs::ServiceKey::of(address("2001:db8::1", 25));
  EXPECT_TRUE(table().at(key).destinations.empty());
  config_.services[0].forwarding = Forwarding::ipvs_tun;
  EXPECT_EQ(table().at(key).destinations.size(), 3u);
}

TEST(Settings, schedulers_and_stickiness) {
  config::Pool pool;
  using config::Scheduler;
  const auto name = [&](Scheduler scheduler) {
    pool.scheduler = scheduler;
    const ipvs::ServiceSettings settings = settings_of(pool, false);
    return settings.scheduler + (settings.flags == ipvs::kFallback ? "+fallback" : "");
  };
  EXPECT_EQ(name(Scheduler::round_robin), "wrr");
  EXPECT_EQ(name(Scheduler::least_conn), "wlc");
  EXPECT_EQ(name(Scheduler::random_two), "wlc");
  EXPECT_EQ(name(Scheduler::source_hash), "sh+fallback");
  EXPECT_EQ(name(Scheduler::maglev), "mh+fallback");
  config::Sticky sticky;
  sticky.ttl = std::chrono::hours(12);
  pool.sticky = sticky;
  EXPECT_EQ(settings_of(pool, false).persistence, (ipvs::Persistence{43200, 24}));
  EXPECT_EQ(settings_of(pool, true).persistence, (ipvs::Persistence{43200, 64}));
}

TEST(Timeouts, are_the_longest_that_a_service_in_the_kernel_asks_for) {
  config::Config config;
  using std::chrono::minutes;
  for (int i = 0; i < 3; ++i) {
    config::Service& service = config.services.emplace_back();
    service.timeouts = {.connect = minutes(1),
                        .idle = minutes(10 + i),
                        .owed = minutes(60 - i),
                        .half_closed = minutes(5 + i)};
    service.forwarding = Forwarding::ipvs_dr;
  }
  config.services[0].forwarding = Forwarding::proxy;
  EXPECT_EQ(ipvs_timeouts(config), (ipvs::Timeouts{59 * 60, 7 * 60}));
  config.services[1].timeouts.idle = {};  // no limit
  EXPECT_GT(ipvs_timeouts(config).tcp_s, 86400u);
}

}  // namespace
}  // namespace poise::control
