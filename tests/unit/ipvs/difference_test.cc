// From any table to any other: the changes lead there, each would be accepted, nobody else's
// services are touched, and nothing is changed that is right already.
#include "ipvs/difference.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <string>

namespace poise::ipvs {
namespace {

Address address(unsigned number, std::uint16_t port) {
  return Address::from_ip("10.0.0." + std::to_string(number), port).value();
}

ServiceKey some_key() {
  const unsigned number = *rc::gen::inRange(0u, 8u);
  if (number == 0) return ServiceKey::marked(9, AF_INET);
  return ServiceKey::of(address(number, 25));
}

Service some_service() {
  Service service;
  service.settings.scheduler = *rc::gen::element<std::string>("wrr", "wlc", "sh");
  if (*rc::gen::arbitrary<bool>())
    service.settings.persistence =
        Persistence{*rc::gen::inRange(1u, 3u), *rc::gen::element<std::uint8_t>(24, 32)};
  const unsigned count = *rc::gen::inRange(0u, 5u);
  for (unsigned i = 0; i < count; ++i) {
    Destination destination;
    destination.method = *rc::gen::element(Method::nat, Method::direct, Method::tunnel);
    destination.weight = *rc::gen::inRange(0u, 3u);
    destination.max = *rc::gen::element(0u, 100u);
    service.destinations[address(*rc::gen::inRange(100u, 106u), 25)] = destination;
  }
  return service;
}

Table some_table() {
  Table table;
  const unsigned count = *rc::gen::inRange(0u, 6u);
  for (unsigned i = 0; i < count; ++i) table[some_key()] = some_service();
  return table;
}

TEST(Difference, leads_to_what_is_wanted_and_touches_nobody_else) {
  EXPECT_TRUE(rc::check([] {
    const Table wanted = some_table(), actual = some_table();
    std::set<ServiceKey> ours;
    for (unsigned i = *rc::gen::inRange(0u, 4u); i > 0; --i) ours.insert(some_key());

    Table table = actual;
    for (const Change& change : difference(wanted, actual, ours)) {
      RC_ASSERT(perform(change, table));
    }
    Table expected = wanted;
    for (const auto& [key, service] : actual)
      if (!wanted.contains(key) && !ours.contains(key)) expected[key] = service;
    RC_ASSERT(table == expected);
    RC_ASSERT(difference(wanted, table, ours).empty());
  }));
}

TEST(Difference, service_never_loses_its_last_server_before_it_has_the_next) {
  EXPECT_TRUE(rc::check([] {
    const Table wanted = some_table(), actual = some_table();
    Table table = actual;
    for (const Change& change : difference(wanted, actual, {})) {
      RC_ASSERT(perform(change, table));
      const auto before = actual.find(change.service), goal = wanted.find(change.service);
      if (before == actual.end() || goal == wanted.end()) continue;
      if (before->second.destinations.empty() || goal->second.destinations.empty()) continue;
      RC_ASSERT(!table.at(change.service).destinations.empty());
    }
  }));
}

TEST(Difference, one_server_is_one_change) {
  Table actual;
  for (unsigned service = 1; service <= 200; ++service)
    for (unsigned server = 1; server <= 20; ++server)
      actual[ServiceKey::of(address(service, 25))].destinations[address(server, 25)] = {};
  Table wanted = actual;
  wanted[ServiceKey::of(address(77, 25))].destinations[address(7, 25)].weight = 0;
  const auto changes = difference(wanted, actual, {});
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].text(), "change server 10.0.0.7:25 (nat, weight 0) of 10.0.0.77:25");
}

TEST(Difference, changes_read_like_sentences) {
  const ServiceKey key = ServiceKey::of(address(1, 25));
  using Kind = Change::Kind;
  const Change added{.kind = Kind::new_service,
                     .service = key,
                     .settings = {.scheduler = "sh", .persistence = Persistence{60, 24}}};
  EXPECT_EQ(added.text(), "add service 10.0.0.1:25 (scheduler sh, persistent 60 s by /24)");
  const Change server{.kind = Kind::new_destination,
                      .service = ServiceKey::marked(7, AF_INET6),
                      .address = address(2, 25),
                      .destination = {.method = Method::tunnel, .weight = 3, .max = 50}};
  EXPECT_EQ(server.text(),
            "add server 10.0.0.2:25 (tunnel, weight 3, at most 50) to mark 7 (IPv6)");
  const Change gone{.kind = Kind::delete_service, .service = key};
  EXPECT_EQ(gone.text(), "remove service 10.0.0.1:25");
}

}  // namespace
}  // namespace poise::ipvs
