#include "control/world.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace poise::control {
namespace {

config::Config sample() {
  config::Config config;
  config::Pool pool;
  pool.name = "mx";
  for (const char* name : {"a", "b", "c"}) {
    config::Backend backend;
    backend.name = name;
    backend.literal = Address::from_ip("192.0.2.1", static_cast<std::uint16_t>(2500 + name[0]));
    pool.backends.push_back(backend);
  }
  config.pools.push_back(pool);
  config::Service service;
  service.name = "smtp";
  service.limits.sessions = 7;
  config.services.push_back(service);
  return config;
}

struct Fixture {
  proxy::Registries registries;
  log::NameTable names;
  World world{registries, names};
};

// What both configurations name keeps its id, and so its places and counters, wherever it stands in
// the file.
TEST(World, ids_follow_names) {
  Fixture fixture;
  config::Config config = sample();
  const auto before = fixture.world.next(config);
  const BackendId c = before->pools[0]->members()[2].id;
  const std::uint32_t pair_c = before->services[0].pairs[2];
  fixture.registries.backends[c.value].sessions.store(5);

  std::swap(config.pools[0].backends[0], config.pools[0].backends[2]);
  config.pools[0].backends.erase(config.pools[0].backends.begin() + 1);
  const auto after = fixture.world.next(config);
  EXPECT_EQ(after->pools[0]->members()[0].id, c);
  EXPECT_EQ(after->services[0].pairs[0], pair_c);
  EXPECT_EQ(after->pools[0]->members()[0].state->sessions.load(), 5u);
  EXPECT_EQ(fixture.names.backend_path(c), "mx/c");
  EXPECT_GT(after->version, before->version);
}

// Building a pool's tables takes a millisecond or more: only what changes is built again, and what
// the operator or health says of a backend reaches its pool.
TEST(World, only_a_changed_pool_is_built_again) {
  Fixture fixture;
  config::Config config = sample();
  config.pools.push_back(config.pools[0]);
  config.pools[1].name = "imap";
  const auto before = fixture.world.next(config);
  BackendStatus* status = fixture.world.backends().find("imap/b");
  ASSERT_NE(status, nullptr);
  status->admin.admin = Admin::draining;
  const auto drained = fixture.world.next(config);
  EXPECT_EQ(drained->pools[0], before->pools[0]);
  EXPECT_NE(drained->pools[1], before->pools[1]);
  EXPECT_FALSE(drained->pools[1]->members()[1].enabled);
  EXPECT_EQ(status->state(), "draining");

  status->admin.admin = Admin::enabled;
  status->health = Health::down;
  const auto down = fixture.world.next(config);
  EXPECT_TRUE(down->pools[1]->members()[1].enabled);
  EXPECT_FALSE(down->pools[1]->members()[1].up);
}

// A list of thousands of networks takes milliseconds to build: once, however many services have it,
// and for as long as somebody has it.
TEST(World, only_a_changed_list_is_built_again) {
  Fixture fixture;
  config::Config config = sample();
  const auto network = [](const char* base) { return Network{*Address::from_ip(base), 24}; };
  const Address guest = *Address::from_ip("203.0.113.9");
  config.services[0].deny = config.services[0].limits.except = {network("203.0.113.0")};
  config.services.push_back(config.services[0]);
  config.services[1].name = "imap";
  const auto first = fixture.world.next(config);
  const auto& denied = first->services[0].deny;
  EXPECT_TRUE(denied.contains(guest));
  EXPECT_TRUE(denied.shares(first->services[1].deny));
  EXPECT_TRUE(denied.shares(first->services[1].limits_except));
  EXPECT_TRUE(first->services[0].allow.empty());
  EXPECT_TRUE(denied.shares(fixture.world.next(config)->services[1].deny));

  config.services[0].deny = {network("198.51.100.0")};
  const auto changed = fixture.world.next(config);
  EXPECT_FALSE(changed->services[0].deny.contains(guest));
  EXPECT_TRUE(changed->services[0].deny.contains(*Address::from_ip("198.51.100.1")));
  EXPECT_TRUE(denied.shares(changed->services[1].deny));
  EXPECT_TRUE(denied.contains(guest)) << "whoever still holds the old snapshot";
}

// Another address is another server: it starts from nothing.
TEST(World, a_new_address_is_a_new_backend) {
  Fixture fixture;
  config::Config config = sample();
  const BackendId before = fixture.world.next(config)->pools[0]->members()[0].id;
  config.pools[0].backends[0].literal->port = 9;
  EXPECT_NE(fixture.world.next(config)->pools[0]->members()[0].id, before);
}

// Sessions of a removed service still find its settings.
TEST(World, a_removed_service_keeps_its_settings) {
  Fixture fixture;
  config::Config config = sample();
  const ServiceId id = fixture.world.next(config)->services[0].id;
  config.services[0].name = "submission";
  config.services[0].limits.sessions = 1;
  const auto after = fixture.world.next(config);
  ASSERT_EQ(after->services.size(), 2u);
  EXPECT_EQ(after->services[id.value].sessions_max, 7u);
}

// A removed service's last sessions may still look for a backend.
TEST(World, a_removed_service_keeps_its_pool) {
  Fixture fixture;
  config::Config config = sample();
  const ServiceId id = fixture.world.next(config)->services[0].id;
  config.services.clear();
  config.pools.clear();
  const auto after = fixture.world.next(config);
  EXPECT_EQ(after->services[id.value].pool->members().size(), 3u);
}

// So its clients are refused in their own protocol, whatever its pool does for others.
TEST(World, a_service_that_is_not_enabled_has_no_backend) {
  Fixture fixture;
  config::Config config = sample();
  config.services.push_back(config.services[0]);
  config.services[1].name = "other";
  fixture.world.service_admin()["smtp"] = {.admin = Admin::disabled, .reason = {}, .user = {}};
  auto snapshot = fixture.world.next(config);
  EXPECT_EQ(snapshot->services[0].pool->pick({}).result, balance::PickResult::no_backend);
  EXPECT_EQ(snapshot->services[1].pool->members().size(), 3u);
  fixture.world.service_admin().clear();
  EXPECT_EQ(fixture.world.next(config)->services[0].pool->members().size(), 3u);
}

// The operator's decision is about the name: it meets a backend again that comes back, or moves.
TEST(World, a_new_backend_is_shown_to_who_remembers) {
  Fixture fixture;
  fixture.world.on_new_backend = [](BackendStatus& status) {
    if (status.path() == "mx/b") status.admin.admin = Admin::disabled;
  };
  const auto snapshot = fixture.world.next(sample());
  EXPECT_TRUE(snapshot->pools[0]->members()[0].enabled);
  EXPECT_FALSE(snapshot->pools[0]->members()[1].enabled);
}

std::string up(const proxy::Snapshot& snapshot) {
  std::string names;
  for (const balance::Member& member : snapshot.pools[0]->members())
    names += member.up ? static_cast<char>(member.address.port - 2500) : '-';
  return names;
}

// Health alone never empties a pool: only the best kind of backend there is counts as up, and those
// without a verdict or busy ones are better than nobody.
TEST(World, only_the_best_kind_of_backend_is_up) {
  Fixture fixture;
  config::Config config = sample();
  config.pools[0].probe.type = config::ProbeType::smtp;
  EXPECT_EQ(up(*fixture.world.next(config)), "abc") << "all checking";
  BackendTable& table = fixture.world.backends();
  table.find("mx/a")->health = Health::up;
  EXPECT_EQ(up(*fixture.world.next(config)), "a--");
  table.find("mx/b")->health = Health::recovering;
  EXPECT_EQ(up(*fixture.world.next(config)), "ab-");
  table.find("mx/a")->takes_new = false;
  EXPECT_EQ(up(*fixture.world.next(config)), "-b-");
  table.find("mx/b")->health = Health::down;
  EXPECT_EQ(up(*fixture.world.next(config)), "--c") << "no verdict is better than busy";
  table.find("mx/c")->health = Health::down;
  EXPECT_EQ(up(*fixture.world.next(config)), "a--") << "busy is better than down";
  table.find("mx/a")->health = Health::down;
  EXPECT_EQ(up(*fixture.world.next(config)), "---");
}

// A backend that the operator has taken out does not keep the busy ones out.
TEST(World, a_disabled_backend_is_nobodys_better) {
  Fixture fixture;
  const config::Config config = sample();
  (void)fixture.world.next(config);
  BackendTable& table = fixture.world.backends();
  table.find("mx/a")->admin.admin = Admin::disabled;
  table.find("mx/b")->takes_new = table.find("mx/c")->takes_new = false;
  EXPECT_EQ(up(*fixture.world.next(config)), "abc");
}

TEST(World, a_ramping_backend_has_its_share_of_weight) {
  Fixture fixture;
  config::Config config = sample();
  config.pools[0].backends[1].weight = 3;
  (void)fixture.world.next(config);
  BackendStatus* status = fixture.world.backends().find("mx/b");
  const auto weights = [&] {
    std::vector<unsigned> all;
    for (const balance::Member& member : fixture.world.next(config)->pools[0]->members())
      all.push_back(member.weight);
    return all;
  };
  status->ramp = 0.1;
  EXPECT_EQ(weights(), (std::vector<unsigned>{20, 6, 20}));
  status->ramp = 0.5;
  EXPECT_EQ(weights(), (std::vector<unsigned>{20, 30, 20}));
  status->ramp = 1;
  EXPECT_EQ(weights(), (std::vector<unsigned>{1, 3, 1}));
}

// A name without an address is in the table, where it can be seen, and nowhere else.
TEST(World, a_backend_without_an_address_is_no_member) {
  Fixture fixture;
  config::Config config = sample();
  config.pools[0].backends[1].literal.reset();
  EXPECT_EQ(up(*fixture.world.next(config)), "ac");
  EXPECT_NE(fixture.world.backends().find("mx/b"), nullptr);
  for (config::Backend& backend : config.pools[0].backends) backend.literal.reset();
  EXPECT_EQ(up(*fixture.world.next(config)), "");
}

}  // namespace
}  // namespace poise::control
