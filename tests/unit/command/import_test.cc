// Other balancers' configurations as ours: what is carried over, what is said not to be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "command/import_alteon.h"
#include "command/import_haproxy.h"
#include "config/load.h"

namespace poise {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

config::Config config_of(const Result<Imported>& imported) {
  if (!imported) {
    ADD_FAILURE() << imported.error().text();
    return {};
  }
  const std::string text = imported->draft.text();
  const config::LoadResult loaded = config::load_text(text);
  for (const config::Problem& each : loaded.errors) ADD_FAILURE() << each.text() << "\n" << text;
  return loaded.config.value_or(config::Config{});
}

struct Bad {
  const char* text;
  const char* says;
};

void expect_says(decltype(import_haproxy) import, std::initializer_list<Bad> cases) {
  for (const Bad& each : cases) {
    const auto imported = import(each.text, "x");
    ASSERT_FALSE(imported) << each.text;
    EXPECT_THAT(imported.error().text(), HasSubstr(each.says));
  }
}

/// Of what was imported, for each of `said` a line that has it.
void expect_left_out(const Result<Imported>& imported, std::initializer_list<const char*> said) {
  ASSERT_TRUE(imported);
  for (const char* each : said) EXPECT_THAT(imported->left_out, Contains(HasSubstr(each)));
}

// ---- haproxy

constexpr const char* kHaproxy = R"(# /etc/haproxy/haproxy.cfg
global
    log /dev/log local0
    maxconn 20000
    user haproxy
    daemon

defaults
    log global
    mode tcp
    option tcplog
    option dontlognull
    timeout connect 5s
    timeout client 30m
    timeout server 40m
    timeout queue 20000
    retries 3

frontend smtp-in
    bind 192.0.2.1:25,ipv6@[2001:db8::1]:25
    maxconn 5000
    default_backend mx

backend mx
    balance leastconn
    option smtpchk EHLO lb.example.org
    default-server inter 20s fall 4 rise 2 slowstart 60s
    server mx1 10.0.0.11:25 check weight 20 maxconn 500 send-proxy
    server mx2 10.0.0.12:25 check weight 10 send-proxy
    server 'mx 3' mx3.example.org:25 check backup send-proxy # standby
    server old 10.0.0.14:25 disabled

listen imap
    bind *:143
    balance source
    hash-type consistent
    stick-table type ip size 200k expire 12h
    stick on src
    timeout client-fin 30s
    server box1 ipv4@10.0.1.11 check
    server box2 10.0.1.12:1143 check port 8143

listen https-admin
    mode http
    bind :443 ssl crt /etc/ssl/admin.pem
    server a 10.0.2.1:80

frontend submission
    bind :587 accept-proxy
    acl bad src 203.0.113.0/24
    tcp-request connection reject if bad
    use_backend mx if bad
    default_backend nowhere

backend lonely
    server a 10.0.0.1:25
)";

TEST(ImportHaproxy, a_frontend_and_its_backend) {
  const auto imported = import_haproxy(kHaproxy, "haproxy.cfg");
  const config::Config config = config_of(imported);
  ASSERT_THAT(config.services, SizeIs(2));
  const config::Service& smtp = config.services[0];
  EXPECT_EQ(smtp.name, "smtp-in");
  EXPECT_EQ(smtp.protocol, Protocol::smtp);
  ASSERT_THAT(smtp.listen, SizeIs(2));
  EXPECT_EQ(smtp.listen[1].text(), "[2001:db8::1]:25");
  EXPECT_EQ(smtp.limits.sessions, 5000u);
  EXPECT_EQ(smtp.timeouts.connect, 5s);
  EXPECT_EQ(smtp.timeouts.idle, 40min);
  const config::Pool& mx = config.pools.at(smtp.pool);
  EXPECT_EQ(mx.name, "mx");
  EXPECT_EQ(mx.scheduler, config::Scheduler::least_conn);
  EXPECT_EQ(mx.send_proxy, config::SendProxy::v1);
  EXPECT_EQ(mx.slow_start, 60s);
  EXPECT_EQ(mx.queue.timeout, 20s);
  EXPECT_EQ(mx.probe.interval, 20s);
  EXPECT_EQ(mx.probe.fall, 4u);
  ASSERT_THAT(mx.backends, SizeIs(4));
  EXPECT_EQ(mx.backends[0].weight, 20u);
  EXPECT_EQ(mx.backends[0].max_sessions, 500u);
  EXPECT_EQ(mx.backends[2].name, "mx-3");
  EXPECT_EQ(mx.backends[2].host_name, "mx3.example.org");
  EXPECT_EQ(mx.backends[2].tier, 1u);
  EXPECT_EQ(mx.backends[3].weight, 0u);
}

TEST(ImportHaproxy, a_listen_section_with_stickiness) {
  const config::Config config = config_of(import_haproxy(kHaproxy, "haproxy.cfg"));
  const config::Service& imap = config.services.at(1);
  EXPECT_EQ(imap.listen.at(0).text(), "0.0.0.0:143");
  EXPECT_EQ(imap.timeouts.half_closed, 30s);
  const config::Pool& pool = config.pools.at(imap.pool);
  EXPECT_EQ(pool.scheduler, config::Scheduler::maglev);
  ASSERT_TRUE(pool.sticky);
  EXPECT_EQ(pool.sticky->ttl, 12h);
  EXPECT_EQ(pool.sticky->entries, 200u * 1024);
  EXPECT_EQ(pool.backends.at(0).literal->text(), "10.0.1.11:143") << "the listener's port";
  EXPECT_EQ(pool.backends.at(1).literal->text(), "10.0.1.12:1143");
}

TEST(ImportHaproxy, says_what_it_leaves_out_with_the_line) {
  const auto imported = import_haproxy(kHaproxy, "haproxy.cfg");
  expect_left_out(
      imported,
      {"haproxy.cfg:4: maxconn 20000", "haproxy.cfg:17: retries 3: another server is tried",
       "check port 8143: port has no counterpart", "listen https-admin: mode http",
       "frontend submission: there is no backend nowhere", "acl bad src",
       "tcp-request connection reject if bad", "use_backend mx if bad",
       "backend lonely: no frontend uses it"});
  const auto& left = imported->left_out;
  // What is always so, or moves no mail, is no loss; defaults are said once.
  for (const char* quiet : {"tcplog", "dontlognull", "log global", "daemon", "smtpchk"})
    EXPECT_THAT(left, testing::Not(Contains(HasSubstr(quiet)))) << quiet;
  EXPECT_EQ(
      std::count_if(left.begin(), left.end(),
                    [](const std::string& each) { return each.find("retries") < each.size(); }),
      1);
}

TEST(ImportHaproxy, defaults_by_name_and_in_order) {
  const config::Config config = config_of(import_haproxy(R"(
defaults slow
  timeout connect 9s
defaults fast
  timeout connect 1s
listen a from slow
  bind :25
  server s 192.0.2.1:25 source 192.0.2.9
listen b
  bind 127.0.0.1:110
  source 0.0.0.0 usesrc clientip
  balance random(2)
  server s 192.0.2.1:110 on-marked-down shutdown-sessions
)",
                                                         "x"));
  ASSERT_THAT(config.services, SizeIs(2));
  EXPECT_EQ(config.services[0].timeouts.connect, 9s);
  EXPECT_EQ(config.services[1].timeouts.connect, 1s);
  const config::Pool& pool = config.pools.at(1);
  EXPECT_TRUE(pool.source_address.client);
  EXPECT_EQ(pool.scheduler, config::Scheduler::random_two);
  EXPECT_EQ(pool.on_down, config::OnDown::close);
}

TEST(ImportHaproxy, bad_input_says_what_is_wrong) {
  expect_says(import_haproxy,
              {{"", "no TCP service"},
               {"bind :25\n", "x:1: \"bind\" stands in no section"},
               {"frontend f\n bind :25\n", "no TCP service"},
               {"listen f\n bind :25\n", "no TCP service"},
               {"listen f\n bind :99999\n server a 192.0.2.1:25\n", "no TCP service"},
               {"listen f\n bind :25\n server a 192.0.2.1:999999\n", "no TCP service"},
               {"{ \"version\": 1 }", "stands in no section"}});
  for (const char* odd :
       {"listen f\n bind :25 \"", "listen\n server\n bind\n timeout\n stick-table size\n",
        "listen f\n bind ,,:,\n server a\n server b [::1\n balance\n option\n"})
    EXPECT_FALSE(import_haproxy(odd, "x")) << odd;
}

// ---- Alteon

constexpr const char* kAlteon = R"(script start "Alteon AD3" 4  /**** DO NOT EDIT THIS LINE!
/* Configuration dump taken 11:20:33 Mon Nov  2, 2009
/* Version 10.0.33, Base MAC address 00:60:cf:00:00:00
/c/sys
	idle 60
/c/ip/if 1
	ena
	addr 192.0.2.2
/c/slb
	on
/c/slb/adv
	direct ena
/c/slb/real 1
	ena
	rip 10.0.0.11
	name "mx one"
	weight 3
	maxcon 400
	inter 5
	retry 4
	restr 2
	tmout 20
/c/slb/real 2
	ena
	rip 10.0.0.12
	backup 3
/c/slb/real 3
	ena
	rip 10.0.0.13
/c/slb/real 4
	rip 10.0.0.14
/c/slb/real 9
	ena
	rip 10.0.0.19
/c/slb/group 1
	metric roundrobin
	health smtp
	content "lb.example.org"
	add 1
	add 2
	add 4
	name "mx"
/c/slb/group 2
	metric bandwidth
	health http
	slowstr 30
	backup g3
	add 1
/c/slb/group 3
	add 3
/c/slb/port 1
	client ena
/c/slb/port 2
	server ena
/c/slb/filt 10
	action redir
/c/slb/virt 1
	ena
	vip 192.0.2.25
	vname "mail"
/c/slb/virt 1/service smtp
	group 1
	rport 2525
/c/slb/virt 1/service 143
	group 2
	pbind clientip
	ptmout 30
	dbind ena
	hname x
/c/slb/virt 2
	vip 192.0.2.26
/c/slb/virt 2/service 110
	group 1
/c/slb/virt 3
	ena
	vip 192.0.2.27
/c/slb/virt 3/service 995
	group 7
script end  /**** DO NOT EDIT THIS LINE!
)";

TEST(ImportAlteon, services_groups_and_real_servers) {
  const auto imported = import_alteon(kAlteon, "dump");
  const config::Config config = config_of(imported);
  ASSERT_THAT(config.services, SizeIs(2));
  const config::Service& smtp = config.services[0];
  EXPECT_EQ(smtp.name, "mail-25");
  EXPECT_EQ(smtp.listen.at(0).text(), "192.0.2.25:25");
  EXPECT_EQ(smtp.timeouts.idle, 20min) << "the real server's tmout";
  const config::Pool& mx = config.pools.at(smtp.pool);
  EXPECT_EQ(mx.name, "mx-25");
  EXPECT_EQ(mx.scheduler, config::Scheduler::round_robin);
  EXPECT_EQ(mx.probe.type, config::ProbeType::smtp);
  EXPECT_EQ(mx.probe.interval, 5s);
  EXPECT_EQ(mx.probe.fall, 4u);
  EXPECT_EQ(mx.probe.rise, 2u);
  ASSERT_THAT(mx.backends, SizeIs(4));
  EXPECT_EQ(mx.backends[0].name, "mx-one");
  EXPECT_EQ(mx.backends[0].host, "mx-one");
  EXPECT_EQ(mx.backends[0].literal->text(), "10.0.0.11:2525") << "rport";
  EXPECT_EQ(mx.backends[0].weight, 3u);
  EXPECT_EQ(mx.backends[0].max_sessions, 400u);
  EXPECT_EQ(mx.backends[2].weight, 0u) << "never enabled";
  EXPECT_EQ(mx.backends[3].name, "real3");
  EXPECT_EQ(mx.backends[3].tier, 1u) << "backup of real 2";
  const config::Pool& imap = config.pools.at(config.services[1].pool);
  EXPECT_EQ(imap.scheduler, config::Scheduler::least_conn);
  EXPECT_EQ(imap.slow_start, 30s);
  ASSERT_TRUE(imap.sticky);
  EXPECT_EQ(imap.sticky->ttl, 30min);
  EXPECT_EQ(imap.backends.at(1).tier, 1u) << "backup group";
}

TEST(ImportAlteon, says_what_it_leaves_out_with_the_line) {
  expect_left_out(
      import_alteon(kAlteon, "dump"),
      {"dump:4: /c/sys: only /c/slb", "dump:6: /c/ip: only /c/slb", "content lb.example.org",
       "real 2: backup 3 serves when all of tier 0", "metric bandwidth", "health http",
       "/c/slb/port", "/c/slb/filt 10", "hname x", "virt 2: is not enabled",
       "virt 3, service 995: there is no group 7", "real 9: no service uses it"});
}

TEST(ImportAlteon, paths_that_end_with_a_command) {
  const config::Config config = config_of(import_alteon(R"(/cfg/slb/real 1/ena
/cfg/slb/real 1/rip 10.0.0.1
/cfg/slb/real 1/name "a/b"
/cfg/slb/group 1/add 1
/cfg/slb/group 1/metric minmisses
/cfg/slb/virt 1/ena
/cfg/slb/virt 1/vip 2001:db8::25
/cfg/slb/virt 1/service 25/group 1
/cfg/slb/virt 1/service 25/tmout 5
)",
                                                        "dump"));
  ASSERT_THAT(config.services, SizeIs(1));
  EXPECT_EQ(config.services[0].listen.at(0).text(), "[2001:db8::25]:25");
  EXPECT_EQ(config.services[0].timeouts.idle, 5min);
  EXPECT_EQ(config.pools.at(0).scheduler, config::Scheduler::maglev);
  EXPECT_EQ(config.pools[0].backends.at(0).name, "a-b");
}

TEST(ImportAlteon, bad_input_says_what_is_wrong) {
  expect_says(import_alteon,
              {{"", "no /c/slb"},
               {"frontend f\n bind :25\n", "no /c/slb"},
               {"/c/slb\n\ton\n", "no virtual service"},
               {"/c/slb/virt 1\n ena\n vip nowhere\n/c/slb/virt 1/service 25\n group 1\n",
                "no virtual service"},
               {"/c/slb/virt\n/c/slb/real\n rip\n/c/slb/group 1\n add\n metric\n/c//\n/\n//c\n",
                "no virtual service"}});
}

}  // namespace
}  // namespace poise
