// balance's command line as a configuration: what the man page shows, and what can't be had.
#include "command/balance_line.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "config/load.h"

namespace poise {
namespace {

config::Config config_of(const std::vector<std::string>& arguments) {
  const auto line = parse_balance_line(arguments);
  if (!line) {
    ADD_FAILURE() << line.error().text();
    return {};
  }
  const config::LoadResult loaded = config::load_text(line->draft().text());
  for (const config::Problem& each : loaded.errors) ADD_FAILURE() << each.text();
  return loaded.config.value_or(config::Config{});
}

TEST(BalanceLine, the_man_pages_mail_examples) {
  const config::Config smtp = config_of({"smtp", "192.0.2.1", "192.0.2.2"});
  EXPECT_EQ(smtp.services.at(0).protocol, Protocol::smtp);
  EXPECT_EQ(smtp.services[0].listen.at(0).text(), "0.0.0.0:25");
  EXPECT_EQ(smtp.pools.at(0).backends.at(1).literal->text(), "192.0.2.2:25");
  EXPECT_EQ(smtp.pools[0].scheduler, config::Scheduler::round_robin);

  const config::Config imap = config_of({"imap2", "mailserver1::16", "!", "mailserver2"});
  const auto& backends = imap.pools.at(0).backends;
  EXPECT_EQ(backends.at(0).host_name, "mailserver1");
  EXPECT_EQ(backends[0].port, 143);
  EXPECT_EQ(backends[0].max_sessions, 16u);
  EXPECT_EQ(backends[0].tier, 0u);
  EXPECT_EQ(backends.at(1).tier, 1u);
  EXPECT_EQ(backends[1].max_sessions, 0u);
  EXPECT_EQ(imap.pools[0].overflow, config::Overflow::next_tier);

  const config::Config pop = config_of({"pop3", "h1", "h2", "h3", "!", "failover1"});
  EXPECT_EQ(pop.pools.at(0).backends.at(3).tier, 1u);
}

TEST(BalanceLine, options) {
  const config::Config config = config_of({"-adfHM", "-b", "127.0.0.5", "-B127.0.0.6", "-t", "3",
                                           "-T", "60", "2525", "[::1]:26:9", "%"});
  const config::Service& service = config.services.at(0);
  EXPECT_EQ(service.listen.at(0).text(), "127.0.0.5:2525");
  EXPECT_EQ(service.protocol, Protocol::tcp);
  EXPECT_EQ(service.timeouts.connect, std::chrono::seconds(3));
  EXPECT_EQ(service.timeouts.idle, std::chrono::seconds(60));
  EXPECT_EQ(config.log.level, config::LogLevel::debug);
  EXPECT_EQ(config.pools.at(0).source_address.addresses.at(0).ip_text(), "127.0.0.6");
  EXPECT_EQ(config.pools[0].backends.at(0).literal->text(), "[::1]:26");
  EXPECT_EQ(config.pools[0].backends[0].max_sessions, 9u);
  EXPECT_EQ(config_of({"-6", "25", "h"}).services.at(0).listen.size(), 2u);
  EXPECT_GE(config_of({"-T", "0", "25", "h"}).services.at(0).timeouts.idle, std::chrono::hours(24));
}

TEST(BalanceLine, hash_groups) {
  using config::Scheduler;
  EXPECT_EQ(config_of({"25", "a", "b", "%"}).pools.at(0).scheduler, Scheduler::source_hash);
  const config::Pool mixed = config_of({"25", "a", "b", "!", "c", "d", "%", "e"}).pools.at(0);
  for (const auto& [tier, rule] : {std::pair{0u, Scheduler::round_robin},
                                   {1u, Scheduler::source_hash},
                                   {2u, Scheduler::round_robin}})
    EXPECT_EQ(config::scheduler_of(mixed.scheduler, mixed.tier_schedulers, tier), rule);
}

TEST(BalanceLine, tasks_for_the_one_that_serves) {
  const auto command = parse_balance_line({"-b", "127.0.0.1", "-c", "show", "smtp"});
  ASSERT_TRUE(command) << command.error().text();
  EXPECT_EQ(command->task, BalanceLine::Task::command);
  EXPECT_EQ(command->command, "show");
  EXPECT_EQ(command->port, 25u);
  EXPECT_EQ(command->listen(), "127.0.0.1");
  const auto shell = parse_balance_line({"-i", "-d", "25"});
  ASSERT_TRUE(shell);
  EXPECT_EQ(shell->task, BalanceLine::Task::shell);
  EXPECT_EQ(shell->listen(), "0.0.0.0");
}

TEST(BalanceLine, a_disabled_channel_gets_no_new_sessions) {
  auto line = parse_balance_line({"25", "192.0.2.1", "192.0.2.2"});
  ASSERT_TRUE(line);
  line->groups[0].channels[1].enabled = false;
  line->groups.resize(4);
  line->groups[3].channels.push_back({.host = "192.0.2.3", .port = 26, .enabled = false});
  const config::LoadResult loaded = config::load_text(line->draft().text());
  ASSERT_TRUE(loaded.config);
  const auto& backends = loaded.config->pools.at(0).backends;
  EXPECT_EQ(backends.at(0).weight, 1u);
  EXPECT_EQ(backends.at(1).weight, 0u);
  EXPECT_EQ(backends.at(2).name, "g3c0");
  EXPECT_EQ(backends[2].tier, 3u);
}

TEST(BalanceLine, a_channel_by_host_and_port) {
  const auto plain = parse_balance_host("mx1.example.org", "smtp");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->host, "mx1.example.org");
  EXPECT_EQ(plain->port, 25u);
  EXPECT_EQ(parse_balance_host("2001:db8::1", "25")->host, "[2001:db8::1]");
  EXPECT_EQ(parse_balance_host("[2001:db8::1]", "25")->host, "[2001:db8::1]");
  EXPECT_FALSE(parse_balance_host("192.0.2.1:26", "25"));
  EXPECT_FALSE(parse_balance_host("192.0.2.1", "nosuchservice"));
}

TEST(BalanceLine, what_can_not_be_had_says_so) {
  struct Case {
    std::vector<std::string> arguments;
    const char* says;
  };
  for (const Case& c : {
           Case{{}, "PORT HOST"},
           Case{{"25"}, "PORT HOST"},
           Case{{"nosuchservice", "h"}, "service name"},
           Case{{"70000", "h"}, "service name"},
           Case{{"25", "h:25:many"}, "number of sessions"},
           Case{{"25", ":25"}, "no host"},
           Case{{"25", "[::1"}, "no ]"},
           Case{{"25", "!", "h"}, "no server before it"},
           Case{{"-i", "25", "h"}, "-i PORT"},
           Case{{"-c", "show"}, "-i PORT"},
           Case{{"-b", "nowhere", "25", "h"}, "not an IP address"},
           Case{{"-t", "0", "25", "h"}, "seconds"},
           Case{{"-x", "25", "h"}, "-x"},
           Case{{"-b"}, "needs a value"},
       }) {
    const auto line = parse_balance_line(c.arguments);
    ASSERT_FALSE(line) << c.says;
    EXPECT_NE(line.error().text().find(c.says), std::string::npos) << line.error().text();
  }
  std::vector<std::string> many{"25"};
  many.insert(many.end(), 65, "h");
  EXPECT_FALSE(parse_balance_line(many));
}

}  // namespace
}  // namespace poise
