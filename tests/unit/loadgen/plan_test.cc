// What a run is told, before its first socket: sizes, commands, targets, ways of choosing, workload
// files, thresholds. Good texts mean what they say, bad ones are answered with what to do.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "loadgen/client/chooser.h"
#include "loadgen/client/message.h"
#include "loadgen/client/sizes.h"
#include "loadgen/client/targets.h"
#include "loadgen/client/workload.h"
#include "loadgen/report/compare.h"
#include "loadgen/report/report.h"
#include "loadgen/report/threshold.h"
#include "loadgen/server/schedule.h"
#include "loadgen/text/times.h"

namespace poise::loadgen {
namespace {

using Verb = Action::Verb;

TEST(Sizes, forms) {
  EXPECT_EQ(*parse_sizes("4KiB"), (std::vector<SizeClass>{{4096, 1}}));
  EXPECT_EQ(*parse_sizes("2k*70,1M*5"), (std::vector<SizeClass>{{2048, 70}, {1 << 20, 5}}));
  const auto uniform = *parse_sizes("1000-2000");
  EXPECT_EQ(uniform.front().bytes, 1000u);
  EXPECT_EQ(uniform.back().bytes, 2000u);
  const auto mail = *parse_sizes("lognormal:8KiB:1.2");
  EXPECT_LT(mail[31].bytes, 8192u);
  EXPECT_GT(mail[32].bytes, 8192u);
  EXPECT_NEAR(static_cast<double>(mail[31].bytes + mail[32].bytes) / 2, 8192, 60);
  // e^(1.2 * 1.0) above the median lies 84.1 % of all.
  EXPECT_NEAR(static_cast<double>(mail[53].bytes), 8192 * 3.32, 8192 * 0.15);
}

TEST(Sizes, bad_ones) {
  for (const char* const text : {"", "x", "4Xi", "-5", "1-", "9-3", "lognormal:4k", "4k*0", "4k*",
                                 "2GiB", "600M,600M", "nan", "inf", "lognormal:4k:-1"})
    EXPECT_FALSE(parse_sizes(text)) << text;
}

TEST(Sizes, messages_come_in_their_proportions_and_keep_their_size) {
  MessageMaker messages("r", {{2000, 3}, {20'000, 1}}, "a@b", "c@d");
  std::map<bool, int> seen;
  for (int at = 0; at < 4000; ++at) {
    std::string header;
    const std::string id = messages.next(header);
    const std::size_t bytes = header.size() + messages.plain_body(id).size();
    const bool large = bytes > 10'000;
    EXPECT_NEAR(static_cast<double>(bytes), large ? 20'000 : 2000, 8);
    EXPECT_GE(messages.body(id).size(), messages.plain_body(id).size());
    ++seen[large];
  }
  EXPECT_NEAR(seen[true], 1000, 120);
}

TEST(Times, forms) {
  EXPECT_EQ(*parse_time("250ms"), 250 * kMillisecond);
  EXPECT_EQ(*parse_time("1.5s"), 1500 * kMillisecond);
  EXPECT_EQ(*parse_time("2m"), 120 * kSecond);
  EXPECT_EQ(*parse_time("7"), 7 * kSecond);
  for (const char* const text : {"", "s", "5x", "-1s", "nan", "1e300h"})
    EXPECT_FALSE(parse_time(text)) << text;
}

TEST(Actions, forms) {
  std::vector<Action> actions;
  ASSERT_TRUE(add_action(Protocol::imap, "select", actions));
  ASSERT_TRUE(add_action(Protocol::imap, "fetch*2", actions));
  ASSERT_TRUE(add_action(Protocol::imap, "poll=30s*2", actions));
  EXPECT_EQ(actions, (std::vector<Action>{{Verb::select, 0},
                                          {Verb::fetch, 0},
                                          {Verb::fetch, 0},
                                          {Verb::wait, 30 * kSecond},
                                          {Verb::noop, 0},
                                          {Verb::wait, 30 * kSecond},
                                          {Verb::noop, 0}}));
  const auto refused = [](Protocol protocol, const char* text) {
    std::vector<Action> none;
    const Result<void> added = add_action(protocol, text, none);
    return added ? std::string() : added.error().text();
  };
  EXPECT_NE(refused(Protocol::pop3, "fetch").find("there are stat, list, uidl, retr, dele"),
            std::string::npos);
  EXPECT_NE(refused(Protocol::imap, "idle").find("idle=30s"), std::string::npos);
  EXPECT_NE(refused(Protocol::imap, "select=3s").find("takes no time"), std::string::npos);
  EXPECT_NE(refused(Protocol::imap, "fetch*0").find("1 to"), std::string::npos);
  EXPECT_FALSE(check_actions({{Verb::fetch, 0}}));
  EXPECT_FALSE(check_actions({{Verb::retr, 0}}));
  EXPECT_FALSE(check_actions({{Verb::stat, 0}, {Verb::dele, 0}}));
}

TEST(Targets, forms) {
  std::vector<Target> added;
  ASSERT_TRUE(add_target("127.0.0.1:25", added));
  ASSERT_TRUE(add_target("[::1]:25@5", added));
  ASSERT_EQ(added.size(), 2u);
  EXPECT_EQ(added[0].preference, 10u);
  EXPECT_EQ(added[1].preference, 5u);
  for (const char* const text :
       {"127.0.0.1", "127.0.0.1:0", "127.0.0.1:25@x", "127.0.0.1:25@70000"})
    EXPECT_FALSE(add_target(text, added)) << text;
  std::vector<Address> sources;
  ASSERT_TRUE(add_sources("127.0.1.254-127.0.2.2", sources));
  ASSERT_EQ(sources.size(), 5u);
  EXPECT_EQ(sources.back().ip_text(), "127.0.2.2");
  for (const char* const text :
       {"x", "127.0.0.9-127.0.0.1", "127.0.0.1-", "::1-::2", "10.0.0.0-10.255.0.0"})
    EXPECT_FALSE(add_sources(text, sources)) << text;
}

std::vector<Target> targets(std::initializer_list<unsigned> preferences) {
  std::vector<Target> list;
  for (const unsigned preference : preferences)
    list.push_back({*Address::from_ip("127.0.0.1", 25), preference});
  return list;
}

std::vector<std::uint32_t> order(Chooser& chooser, std::uint64_t number, Nanos now = 0) {
  std::vector<std::uint32_t> list;
  chooser.order_for(number, now, list);
  return list;
}

TEST(Chooser, turns_single_balancer) {
  Chooser turns({}, targets({10, 10, 10}));
  EXPECT_EQ(order(turns, 4), std::vector<std::uint32_t>{1});
  Chooser single({.choice = Choice::single}, targets({10}));
  EXPECT_EQ(order(single, 4), std::vector<std::uint32_t>{0});
  Chooser pair({.choice = Choice::balancer}, targets({10, 10}));
  EXPECT_EQ(order(pair, 1), (std::vector<std::uint32_t>{1, 0}));
}

TEST(Chooser, dns_list_rotates_and_is_kept_for_its_ttl) {
  Chooser each({.choice = Choice::dns_rr, .senders = 1}, targets({10, 10, 10}));
  EXPECT_EQ(order(each, 0), (std::vector<std::uint32_t>{0, 1, 2}));
  EXPECT_EQ(order(each, 0), (std::vector<std::uint32_t>{1, 2, 0}));
  Chooser cached({.choice = Choice::dns_rr, .ttl = 10 * kSecond, .senders = 1},
                 targets({10, 10, 10}));
  EXPECT_EQ(order(cached, 0, 0)[0], 0u);
  EXPECT_EQ(order(cached, 1, 9 * kSecond)[0], 0u);
  EXPECT_EQ(order(cached, 2, 10 * kSecond)[0], 1u);
}

TEST(Chooser, some_senders_try_the_first_address_only) {
  Chooser chooser({.choice = Choice::dns_rr, .first_only = 0.5, .senders = 1000},
                  targets({10, 10, 10}));
  int first_only = 0;
  for (std::uint64_t sender = 0; sender < 1000; ++sender)
    first_only += order(chooser, sender).size() == 1;
  EXPECT_NEAR(first_only, 500, 60);
}

TEST(Chooser, mx_prefers_the_lowest_and_spreads_equals) {
  Chooser chooser({.choice = Choice::mx}, targets({20, 10, 10}));
  std::map<std::uint32_t, int> first;
  for (std::uint64_t at = 0; at < 1000; ++at) {
    const auto list = order(chooser, at);
    ASSERT_EQ(list.size(), 3u);
    EXPECT_EQ(list[2], 0u);
    ++first[list[0]];
  }
  EXPECT_NEAR(first[1], 500, 80);
}

TEST(Schedule, forms) {
  const std::vector<std::string> names{"mx1", "mx2"};
  const Event stop = *parse_event("10s:stop:mx2", names);
  EXPECT_EQ(stop.at, 10 * kSecond);
  EXPECT_EQ(stop.kind, Event::Kind::stop);
  EXPECT_EQ(stop.server_name, "mx2");
  EXPECT_EQ(parse_event("5s:greet=421", names)->fault, "greet=421");
  EXPECT_EQ(parse_event("5s:greet=421 a: b:mx1", names)->fault, "greet=421 a: b");
  EXPECT_EQ(parse_event("500ms:heal", names)->kind, Event::Kind::heal);
  for (const char* const text : {"stop", "x:stop", "10s:stop:mx9", "10s:explode", "10s:"})
    EXPECT_FALSE(parse_event(text, names)) << text;
}

TEST(Workload, a_mix_is_read_whole) {
  RunPlan plan;
  const auto problems = read_workload(R"({
    // a comment
    "targets": ["127.0.0.1:25@5"], "choose": "mx", "first_only": 50,
    "pace": {"rate": 20, "duration": "5s"}, "retry": {"times": 3, "after": "2s"},
    "sequences": {"read": ["select", "fetch*2"]},
    "blocks": {
      "in": {"protocol": "smtp", "size": "1KiB-2KiB", "recipients": 3, "pipelining": true},
      "reader": {"commands": ["read", "idle=1s"], "protocol": "imap", "tls": "starttls",
                 "users": 100, "targets": ["127.0.0.1:143"], "think": "30s"},
      "unused": {"protocol": "pop3"}
    },
    "mix": {"in": 3, "reader": 1}
  })",
                                      "load.json", plan);
  EXPECT_EQ(problems, std::vector<std::string>{});
  ASSERT_EQ(plan.blocks.size(), 2u);
  EXPECT_EQ(plan.blocks[0].script.name, "in");
  EXPECT_EQ(plan.blocks[0].weight, 3);
  EXPECT_EQ(plan.blocks[0].sizes.size(), 32u);
  EXPECT_EQ(plan.blocks[0].script.actions, (std::vector<Action>{{Verb::message, 0}}));
  EXPECT_EQ(plan.blocks[1].script.actions.size(), 4u);
  EXPECT_EQ(plan.blocks[1].think, 30 * kSecond);
  EXPECT_EQ(plan.targets[0].preference, 5u);
  EXPECT_EQ(plan.pace.rate, 20);
  EXPECT_EQ(plan.retry.times, 3u);
  EXPECT_TRUE(check_plan(plan));
}

TEST(Workload, problems_say_where_and_what_to_do) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"blocks": {"a": {"protocl": "smtp"}}})",
       "load.json:1:19: /blocks/a/protocl: unknown key \"protocl\"; did you mean \"protocol\"? "
       "(known: auth, "},
      {R"({"blokcs": {}})",
       "load.json:1:2: /blokcs: unknown key \"blokcs\"; did you mean \"blocks\"?"},
      {"{\n  // twice\n  \"mix\": {},\n  \"mix\": {}}",
       "load.json:4:3: /mix: duplicate key \"mix\"; it is already on line 3"},
      {R"({"blocks": {"a": {"protocol": "imp"}}})",
       "/blocks/a/protocol: no protocol \"imp\"; did you mean \"imap\"?"},
      {R"({"blocks": {"a": {"protocol": "imap", "commands": ["fetch"]}}})",
       "/blocks/a/commands: fetch, search and idle need a select before them"},
      {R"({"blocks": {"a": {}}, "mix": {"b": 1}})", "/mix/b: unknown key \"b\" (known: a)"},
      {R"({"blocks": {"a": {"think": 30}}})",
       "/blocks/a/think: expected a time in quotes like \"30s\", got the number 30"},
      {R"({"blocks": {"a": {}}, "blocks": {}})",
       "duplicate key \"blocks\"; it is already on line 1"},
      {R"({"blocks": {"a": {"recipients": 0}}})", "expected a whole number, 1 to"},
      {R"({"blocks": {"a": {"recipients": -1}}})", "expected a whole number, 1 to"},
      {R"({"pace": {"rate": -1}, "blocks": {"a": {}}})",
       "/pace/rate: expected a number above 0, got the number -1"},
      {R"({"targets": ["127.0.0.1"], "blocks": {"a": {}}})", "/targets/0: 127.0.0.1: has no port"},
      {R"({"choose": "mxx", "blocks": {"a": {}}})", "there are turns, single, dns-rr"},
      {R"({})", "load.json:1:1: say what sessions do"},
      {R"([1])", "load.json:1:1: expected an object, { ... }, got a list"},
      {R"({"blocks": )", "load.json:1:12: syntax error: the file ends inside the object that"},
      {R"({"blocks": {"a": {"protocol": "imaps", "tls": "starttls"}}})", "TLS from the first byte"},
  };
  for (const auto& [text, problem] : cases) {
    RunPlan plan;
    const auto problems = read_workload(text, "load.json", plan);
    ASSERT_FALSE(problems.empty()) << text;
    EXPECT_NE(problems[0].find(problem), std::string::npos) << problems[0];
  }
}

TEST(Workload, every_example_is_read) {
  const std::filesystem::path folder =
      std::filesystem::path(POISE_SOURCE_DIR) / "loadgen/workloads";
  unsigned read = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    std::ifstream file(entry.path());
    std::stringstream text;
    text << file.rdbuf();
    RunPlan plan;
    EXPECT_EQ(read_workload(text.str(), "load.json", plan), std::vector<std::string>{})
        << entry.path();
    const Result<void> checked = check_plan(plan);
    EXPECT_TRUE(checked) << entry.path() << ": " << checked.error().text();
    ++read;
  }
  EXPECT_GE(read, 3u);
}

nlohmann::json example_report() {
  static Tally tally;
  tally = {};
  tally.ok = tally.attempts = 10;
  tally.submits = 20;
  tally.blocks.emplace_back().name = "smtp";
  tally.session.add(100 * kMillisecond);
  tally.blocks[0].of(Command::rcpt).answered.add(2 * kSecond);
  return report_json({.tally = tally,
                      .title = "smtp",
                      .run_id = "r",
                      .choice = "turns",
                      .targets = {},
                      .elapsed = 2 * kSecond});
}

TEST(Threshold, forms) {
  const std::vector<std::string> blocks{"smtp"};
  const nlohmann::json report = example_report();
  const std::pair<const char*, bool> cases[] = {
      {"errors>0", false},        {"errors>=0", true},         {"submits<40", true},
      {"submits<5", false},       {"p99>200ms", false},        {"session.p99.9 >= 99ms", true},
      {"smtp.rcpt.p50>1s", true}, {"smtp.rcpt.max>3s", false}, {"failed!=0", false},
      {"submits==10", true}};
  for (const auto& [text, crossed] : cases) {
    const auto threshold = parse_threshold(text, blocks);
    ASSERT_TRUE(threshold) << text << threshold.error().text();
    EXPECT_EQ(is_crossed(*threshold, report), crossed) << text;
  }
  for (const char* const text : {"errors", "eror>0", ">0", "errors>", "errors=>0", "errors>x",
                                 "p99>5", "imap.rcpt.p99>1s", "smtp.rctp.p99>1s", "p99>fast"}) {
    if (std::string(text) == "p99>5") continue;  // a bare number is seconds
    EXPECT_FALSE(parse_threshold(text, blocks)) << text;
  }
  EXPECT_NE(parse_threshold("error>0", blocks).error().text().find("did you mean \"errors\"?"),
            std::string::npos);
}

TEST(Compare, worse_is_told_from_better) {
  const nlohmann::json before = example_report();
  nlohmann::json after = before;
  after["submits_per_second"] = 5.0;
  after["latency_seconds"]["session"]["p99"] = 0.05;
  ASSERT_TRUE(is_report(before));
  EXPECT_FALSE(is_report(nlohmann::json::array()));
  for (const ComparedFigure& figure : compare_reports(before, after).figures) {
    if (figure.name == "submits")
      EXPECT_DOUBLE_EQ(figure.worse_percent(), 50);
    else if (figure.name == "session.p99")
      EXPECT_NEAR(figure.worse_percent(), -50, 1);
    else
      EXPECT_EQ(figure.worse_percent(), 0) << figure.name;
  }
  EXPECT_DOUBLE_EQ((ComparedFigure{"errors", 0, 3, false, false}.worse_percent()), 100);
}

}  // namespace
}  // namespace poise::loadgen
