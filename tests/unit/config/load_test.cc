// The loader as operators meet it: what is said about a bad file, what a good one becomes, and that
// a printed configuration is the same configuration.
#include "config/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "bad_configs.h"
#include "config/document.h"
#include "config/hostname.h"
#include "config/print.h"

namespace poise::config {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

LoadOptions test_options() {
  LoadOptions options;
  options.hostname = "mail.example.org";
  options.cpus = 4;
  return options;
}

std::vector<std::string> lines_of(const LoadResult& result) {
  std::vector<std::string> lines;
  for (const Problem& problem : result.errors) lines.push_back(problem.text());
  for (const Problem& problem : result.warnings) lines.push_back("warning: " + problem.text());
  return lines;
}

/// A file with one service and one pool; `service` and `pool` are more members of these.
std::string file_with(const std::string& protocol, const std::string& service = "",
                      const std::string& pool = "") {
  return R"({"services": [{"name": "s", "listen": ["127.0.0.1:2525"], "protocol": ")" + protocol +
         R"(", "pool": "p")" + service +
         R"(}], "pools": [{"name": "p", "backends": [{"name": "b", "address": "192.0.2.11:2525"}])" +
         pool + "}]}";
}

Config loaded(const std::string& text) {
  const LoadResult result = load_text(text, test_options());
  EXPECT_THAT(result.errors, IsEmpty()) << (result.errors.empty() ? "" : result.errors[0].text());
  return result.config.value_or(Config{});
}

class BadConfigs : public testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigs, say_exactly_this) {
  const LoadResult result = load_text(GetParam().text, test_options());
  EXPECT_EQ(lines_of(result), GetParam().lines) << GetParam().text;
  EXPECT_EQ(result.config.has_value(), result.errors.empty());
}

INSTANTIATE_TEST_SUITE_P(All, BadConfigs, testing::ValuesIn(bad_configs()),
                         [](const testing::TestParamInfo<BadConfig>& bad) {
                           return bad.param.name;
                         });

// Control characters in a key or value must not break a message into two lines.
TEST(Messages, are_one_line_each) {
  for (const BadConfig& bad : bad_configs()) {
    for (const std::string& line : bad.lines) EXPECT_EQ(line.find('\n'), std::string::npos) << line;
  }
}

TEST(Messages, are_bounded_in_number) {
  std::string text = R"({"services": [)";
  for (int i = 0; i < 1000; ++i) text += std::string(i == 0 ? "" : ",") + "7";
  text += R"(], "pools": [{"name": "p", "backends": [{"name": "b", "address": "192.0.2.1:25"}]}]})";
  const LoadResult result = load_text(text, test_options());
  ASSERT_THAT(result.errors, SizeIs(kProblemsMax + 1));
  EXPECT_EQ(result.errors.back().text(), "poise.json: and 800 more errors");
}

TEST(Messages, count_columns_in_characters) {
  const LoadResult result = load_text("{/* \u00e4\u00f6\u00fc */ \"x\": 1}", test_options());
  ASSERT_FALSE(result.errors.empty());
  EXPECT_EQ(result.errors.back().pointer, "/x");
  EXPECT_EQ(result.errors.back().column, 12u);
}

TEST(Files, over_the_size_limit_are_refused) {
  const std::string text(kFileBytesMax + 1, ' ');
  EXPECT_THAT(lines_of(load_text(text, test_options())),
              ElementsAre("poise.json:1:1: the file has 16777217 bytes, 16777216 are allowed"));
}

TEST(Files, with_too_many_values_are_refused) {
  std::string text = R"({"services": [)";
  for (std::size_t i = 0; i <= kValuesMax; ++i) text += "0,";
  const LoadResult result = load_text(text, test_options());
  ASSERT_THAT(result.errors, SizeIs(1));
  EXPECT_THAT(result.errors[0].message, HasSubstr("more than 1000000 values"));
}

TEST(Files, that_cannot_be_read_say_why) {
  EXPECT_THAT(lines_of(load_file("/nowhere/poise.json")),
              ElementsAre("/nowhere/poise.json: cannot be opened: No such file or directory"));
  EXPECT_THAT(lines_of(load_file("/")), ElementsAre("/: cannot be read: Is a directory"));
}

TEST(Files, are_named_in_messages) {
  const std::filesystem::path path = std::filesystem::temp_directory_path() /
                                     ("poise-load-test-" + std::to_string(getpid()) + ".json");
  std::ofstream(path) << "{\n  oops\n}";
  const LoadResult result = load_file(path);
  std::filesystem::remove(path);
  ASSERT_THAT(result.errors, SizeIs(1));
  EXPECT_THAT(result.errors[0].text(), StartsWith(path.string() + ":2:3: syntax error"));
}

TEST(Comments, of_both_kinds_are_skipped_everywhere) {
  const LoadResult plain = load_text(file_with("smtp"), test_options());
  std::string text;
  bool in_string = false;
  for (const char c : file_with("smtp")) {
    text += c;
    if (c == '"') in_string = !in_string;
    if (!in_string) text += "/* { [ \" */ // , \"\n";
  }
  const LoadResult commented = load_text(text, test_options());
  ASSERT_TRUE(plain.config && commented.config) << text;
  EXPECT_EQ(*plain.config, *commented.config);
}

TEST(Comments, do_not_shift_positions) {
  const LoadResult result = load_text("// one\n/* two\nthree */ {\n \"x\": 1 }", test_options());
  ASSERT_FALSE(result.errors.empty());
  EXPECT_EQ(result.errors.back().text().substr(0, 18), "poise.json:4:2: /x");
}

// Every semantic error of a file is told at once, whatever else is wrong with it.
TEST(Errors, of_all_objects_are_told_together) {
  const LoadResult result = load_text(
      R"({"workers": 0,
"services": [{"name": "a b", "listen": ["x"], "protocol": "imap", "pool": "q", "keepalive": 5}],
"pools": [{"name": "p", "weight": 1, "backends": [{"name": "b", "address": "1.2.3.4"}]}]})",
      test_options());
  std::vector<std::string> pointers;
  for (const Problem& problem : result.errors) pointers.push_back(problem.pointer);
  EXPECT_THAT(pointers, ElementsAre("/workers", "/services/0/name", "/services/0/listen/0",
                                    "/services/0/pool", "/services/0/keepalive", "/pools/0/weight",
                                    "/pools/0/backends/0/address"));
}

struct Defaults {
  std::string protocol;
  std::chrono::milliseconds connect, greeting, budget, idle, owed;
  EarlyTalk early_talk;
  ProbeType probe;
  ProbeTls tls;
};

// DESIGN's table: what each protocol gets when nothing is said.
TEST(Defaults, follow_the_protocol) {
  const std::vector<Defaults> table{
      {"smtp", 4s, 15s, 270s, 12min, 65min, EarlyTalk::pass, ProbeType::smtp, ProbeTls::none},
      {"lmtp", 4s, 15s, 270s, 12min, 65min, EarlyTalk::hold, ProbeType::lmtp, ProbeTls::none},
      {"submission", 4s, 15s, 60s, 12min, 65min, EarlyTalk::hold, ProbeType::submission,
       ProbeTls::none},
      {"smtps", 4s, 15s, 60s, 12min, 65min, EarlyTalk::hold, ProbeType::submission,
       ProbeTls::implicit},
      {"imap", 4s, 5s, 45s, 35min, 35min, EarlyTalk::hold, ProbeType::imap, ProbeTls::none},
      {"imaps", 4s, 5s, 45s, 35min, 35min, EarlyTalk::hold, ProbeType::imap, ProbeTls::implicit},
      {"managesieve", 4s, 5s, 45s, 35min, 35min, EarlyTalk::hold, ProbeType::managesieve,
       ProbeTls::none},
      {"pop3", 4s, 5s, 45s, 12min, 35min, EarlyTalk::hold, ProbeType::pop3, ProbeTls::none},
      {"pop3s", 4s, 5s, 45s, 12min, 35min, EarlyTalk::hold, ProbeType::pop3, ProbeTls::implicit},
      {"tcp", 4s, 0s, 0s, 1h, 1h, EarlyTalk::pass, ProbeType::tcp, ProbeTls::none},
  };
  ASSERT_EQ(table.size(), kProtocolNames.size());
  for (const Defaults& row : table) {
    SCOPED_TRACE(row.protocol);
    const Config config = loaded(file_with(row.protocol));
    ASSERT_THAT(config.services, SizeIs(1));
    const Service& service = config.services[0];
    EXPECT_EQ(name_of(service.protocol), row.protocol);
    EXPECT_EQ(service.timeouts.connect, row.connect);
    EXPECT_EQ(service.timeouts.idle, row.idle);
    EXPECT_EQ(service.timeouts.owed, row.owed);
    EXPECT_EQ(service.timeouts.half_closed, 5min);
    EXPECT_EQ(service.greeting.enabled, row.protocol != "tcp");
    EXPECT_EQ(service.greeting.timeout, row.greeting);
    EXPECT_EQ(service.greeting.budget, row.budget);
    EXPECT_EQ(service.greeting.tries, 3u);
    EXPECT_EQ(service.early_talk, row.early_talk);
    EXPECT_EQ(service.keepalive, 5min);
    EXPECT_EQ(service.user_timeout, 2min);
    EXPECT_EQ(config.pools[0].probe.type, row.probe);
    EXPECT_EQ(config.pools[0].probe.tls, row.tls);
  }
}

TEST(Defaults, of_a_complete_build_are_the_contracts) {
  const Config config = loaded(file_with("smtp", "", R"(, "sticky": {})"));
  EXPECT_EQ(config.hostname, "mail.example.org");
  EXPECT_EQ(config.workers, 0u);
  EXPECT_EQ(config.user, "");
  EXPECT_EQ(config.admin.socket, "/run/poise/poised.sock");
  EXPECT_EQ(config.admin.mode, 0660u);
  EXPECT_EQ(config.admin.http->text(), "127.0.0.1:9847");
  EXPECT_EQ(config.shutdown_drain, 30s);
  const Pool& pool = config.pools[0];
  EXPECT_EQ(pool.sticky->ttl, 12h);
  EXPECT_EQ(pool.sticky->entries, 100000u);
  EXPECT_EQ(pool.sticky->prefix_v4, 24u);
  EXPECT_EQ(pool.queue.length, 1000u);
  EXPECT_EQ(pool.queue.timeout, 30s);
  EXPECT_EQ(pool.on_down, OnDown::pace);
  EXPECT_EQ(pool.slow_start, 30s);
  EXPECT_TRUE(pool.passive.enabled);
  EXPECT_EQ(pool.passive.window, 10s);
  EXPECT_EQ(pool.passive.max_ejected, 0.5);
  EXPECT_EQ(pool.probe.interval, 10s);
  EXPECT_EQ(pool.probe.fast_interval, 2s);
  EXPECT_EQ(pool.probe.busy, ProbeBusy::no_new);
  EXPECT_TRUE(pool.probe.deep.enabled);
  EXPECT_EQ(pool.probe.deep.interval, 5min);
  EXPECT_FALSE(loaded(file_with("smtp")).pools[0].sticky);
}

TEST(Off, is_a_word_where_something_can_be_switched_off) {
  const Config config =
      loaded(R"({"admin": {"socket": "off", "http": "off"}, )" +
             file_with("smtp", R"(, "greeting": "off")",
                       R"(, "sticky": "off", "queue": "off", "passive": "off", "probe": "off",
                     "send_proxy": "off")")
                 .substr(1));
  EXPECT_EQ(config.admin.socket, "");
  EXPECT_FALSE(config.admin.http);
  EXPECT_FALSE(config.services.at(0).greeting.enabled);
  const Pool& pool = config.pools.at(0);
  EXPECT_FALSE(pool.sticky);
  EXPECT_EQ(pool.queue.length, 0u);
  EXPECT_FALSE(pool.passive.enabled);
  EXPECT_EQ(pool.probe.type, ProbeType::off);
  EXPECT_EQ(pool.send_proxy, SendProxy::off);
}

TEST(Zero, is_a_number_or_a_text_where_it_means_no_limit) {
  for (const char* zero : {R"("0s")", "0", R"("0ms")"}) {
    const Config config = loaded(file_with("tcp", std::string(R"(, "keepalive": )") + zero));
    EXPECT_EQ(config.services.at(0).keepalive, 0s) << zero;
  }
  EXPECT_EQ(
      loaded(file_with("tcp", R"(, "limits": {"rate": 0})")).services.at(0).limits.rate.per_second,
      0);
}

TEST(Pools, are_found_by_name) {
  const Config config = loaded(R"({"services": [
    {"name": "a", "listen": ["127.0.0.1:1"], "protocol": "tcp", "pool": "second"},
    {"name": "b", "listen": ["127.0.0.1:2"], "protocol": "imap", "pool": "first"}],
   "pools": [{"name": "first", "backends": [{"name": "x", "address": "192.0.2.1:1"}]},
             {"name": "second", "backends": [{"name": "x", "address": "[2001:db8::1]:1"}]}]})");
  EXPECT_EQ(config.services.at(0).pool, 1u);
  EXPECT_EQ(config.services.at(1).pool, 0u);
  EXPECT_EQ(config.pools.at(0).probe.type, ProbeType::imap);
  EXPECT_EQ(config.pools.at(1).backends.at(0).literal->text(), "[2001:db8::1]:1");
}

TEST(Backends, may_be_names) {
  std::string text = file_with("tcp");
  text.replace(text.find("192.0.2.11"), 10, "mx.example.org");
  const Backend backend = loaded(text).pools.at(0).backends.at(0);
  EXPECT_EQ(backend.host_name, "mx.example.org");
  EXPECT_EQ(backend.port, 2525);
  EXPECT_FALSE(backend.literal);
}

TEST(Ipvs, services_have_no_gate_and_no_queue) {
  const Config config = loaded(file_with("smtp", R"(, "forwarding": "ipvs-nat")"));
  EXPECT_FALSE(config.services.at(0).greeting.enabled);
  EXPECT_EQ(config.services.at(0).early_talk, EarlyTalk::pass);
  EXPECT_EQ(config.pools.at(0).queue.length, 0u);
  EXPECT_EQ(config, loaded(print_config(config)));
}

// Everything that can be said, said differently from its default: nothing may get lost on the way
// out and in again.
constexpr const char* kEverything =
    R"({"version": 1, "hostname": "lb.example.org", "workers": 3, "user": "poise",
"admin": {"socket": "/run/x.sock", "mode": "0600", "group": "ops", "http": "[::1]:0"},
"log": {"target": "journal", "level": "debug", "format": "json", "session_start": true},
"shutdown": {"drain": "1m30s"},
"services": [
 {"name": "smtp", "listen": ["0.0.0.0:25", "[::]:25"], "protocol": "smtp", "pool": "mx", "forwarding": "proxy",
  "accept_proxy": "optional", "trusted_proxies": ["10.0.0.2"],
  "greeting": {"timeout": "20s", "budget": "200s", "tries": 4, "retry_5xx": true}, "early_talk": "refuse",
  "timeouts": {"connect": "1500ms", "idle": "13m", "owed": "2h", "half_closed": "7m"},
  "keepalive": "0s", "user_timeout": "1m", "congestion": "cubic", "refusal": {"text": "later", "delay": "2s"},
  "allow": ["192.0.2.0/25"], "deny": ["2001:db8::/33", "198.51.100.7"], "deny_reply": "drop",
  "limits": {"sessions": 9, "sessions_per_source": 3, "rate_per_source": "7/m", "rate": "11/h",
   "source_prefix_v4": 24, "source_prefix_v6": 56, "except": ["10.0.0.0/8"], "mode": "log"}},
 {"name": "kernel", "listen": ["192.0.2.1:143"], "protocol": "imap", "pool": "imap", "forwarding": "ipvs-dr",
  "forwarding_fallback": "proxy"},
 {"name": "off", "listen": ["192.0.2.1:110"], "protocol": "pop3", "pool": "pop3", "greeting": "off", "accept_proxy": true,
  "trusted_proxies": ["fd00::/8"]},
 {"name": "tcp", "listen": ["192.0.2.1:7"], "protocol": "tcp", "pool": "tcp", "greeting": {"tries": 2}}],
"pools": [
 {"name": "mx", "scheduler": "maglev", "congestion": "bbr",
  "sticky": {"by": "source", "prefix_v4": 20, "prefix_v6": 48, "ttl": "1h", "entries": 5, "max_share": 0.3, "except": ["10.0.0.0/8"]},
  "queue": {"length": 3, "timeout": "4s"}, "overflow": "next_tier", "min_up": 2, "preempt": false,
  "when_all_down": "refuse", "on_down": "close", "send_proxy": "v1", "source_address": ["10.0.0.1", "2001:db8::9"], "slow_start": "2m",
  "passive": {"fall": 4, "window": "20s", "max_ejected": 0.25},
  "probe": {"type": "submission", "interval": "20s", "fast_interval": "3s", "down_interval": "30s", "timeout": "11s", "rise": 4,
   "fall": 5, "tls": "starttls", "sni": "mx.example.org", "verify": true, "ca_file": "/etc/ca.pem", "send_proxy": "v2", "busy": "down",
   "deep": {"interval": "10m", "ehlo": false, "rcpt": "a@example.org", "login": {"user": "u", "password_file": "/etc/secret"}}},
  "backends": [{"name": "a", "address": "mx.example.org:25", "weight": 0, "max_sessions": 8, "connect_rate": "90/m", "host": "h", "tier": 0},
               {"name": "b", "address": "[2001:db8::2]:25", "weight": 256}, {"name": "c", "address": "192.0.2.3:25", "tier": 7}]},
 {"name": "imap", "passive": "off", "probe": "off", "queue": "off", "source_address": "client",
  "backends": [{"name": "a", "address": "192.0.2.4:143"}]},
 {"name": "pop3", "probe": {"deep": "off"}, "source_address": "10.0.0.1", "backends": [{"name": "a", "address": "192.0.2.4:110"}]},
 {"name": "tcp", "scheduler": ["random_two", "maglev", "round_robin"], "backends": [{"name": "a", "address": "192.0.2.4:7"}]}]})";

TEST(Print, loads_again_to_the_same) {
  const Config config = loaded(kEverything);
  ASSERT_THAT(config.services, SizeIs(4));
  const std::string printed = print_config(config);
  const Config again = loaded(printed);
  EXPECT_TRUE(config == again) << printed;
  EXPECT_EQ(printed, print_config(again));
}

TEST(Print, names_password_files_only) {
  const std::string printed = print_config(loaded(kEverything));
  EXPECT_THAT(printed, HasSubstr(R"("password_file": "/etc/secret")"));
}

TEST(Examples, load) {
  std::size_t count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(POISE_SOURCE_DIR "/config/examples")) {
    if (entry.path().extension() != ".json") continue;
    ++count;
    SCOPED_TRACE(entry.path().filename());
    EXPECT_THAT(lines_of(load_file(entry.path(), test_options())),
                testing::Each(HasSubstr("see our address instead of the client's")));
  }
  EXPECT_GE(count, 10u);
}

TEST(Hostname, comes_from_the_hosts_file_when_the_kernels_has_no_dot) {
  const auto from = [](const char* name, const char* hosts) {
    std::istringstream file(hosts);
    return qualified(name, file);
  };
  EXPECT_EQ(from("lb.example.org", ""), "lb.example.org");
  EXPECT_EQ(from("lb", "127.0.0.1 localhost\n127.0.1.1 lb.example.org lb # us\n"),
            "lb.example.org");
  EXPECT_EQ(from("lb", "127.0.1.1 lb lb.example.org\n"), "lb.example.org");
  EXPECT_EQ(from("lb", "# 127.0.1.1 lb.example.org lb\n127.0.1.1 other.example.org other\n"), "lb");
  EXPECT_NE(machine_hostname(), "");
}

}  // namespace
}  // namespace poise::config
