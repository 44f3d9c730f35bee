// The session lines, byte by byte: their words and order are a contract with whoever parses logs,
// and nothing that a server says may split or forge one.

#include "log/line.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace poise::log {
namespace {

class LineTest : public ::testing::Test {
 protected:
  LineTest() {
    names_.set_service(ServiceId{0}, "smtp");
    names_.set_backend(BackendId{0}, "mx", "mx1");
    names_.set_backend(BackendId{1}, "mx", "mx2");
    names_.set_backend(BackendId{2}, "mx", "mx3");
    record_.id = 42;
    record_.ended_unix_us = 1'795'287'017'123'456;
    record_.client = *Address::from_ip("192.0.2.1", 4711);
    record_.vip = *Address::from_ip("192.0.2.200", 25);
    record_.source = *Address::from_ip("10.0.0.1", 39999);
    record_.destination = *Address::from_ip("10.0.0.13", 25);
    record_.service = ServiceId{0};
    record_.backend = BackendId{2};
    record_.connect_us = 123;
    record_.greeting_us = 4'567;
    record_.total_us = 61'000'001;
    record_.bytes_to_client = 512;
    record_.bytes_to_backend = 4'096;
    record_.state = SessionState::relaying;
  }

  std::string line() {
    const SessionEnd end{record_, omitted_};
    return {text_.data(), formatter_.session_end(text_.data(), end)};
  }

  /// The value of `key` in the line.
  std::string value(const std::string& key) {
    const std::string all = line();
    const std::size_t start = all.find(" " + key + "=");
    if (start == std::string::npos) return "(absent)";
    const std::size_t from = start + key.size() + 2;
    bool quoted = false;
    std::size_t end = from;
    for (; end < all.size() && (quoted || (all[end] != ' ' && all[end] != '\n')); ++end) {
      if (all[end] == '"') quoted = !quoted;
    }
    return all.substr(from, end - from);
  }

  static TryRecord attempt(std::uint32_t backend, TryOutcome outcome, std::string_view words = "") {
    TryRecord made{BackendId{backend}, outcome, {}};
    std::copy_n(words.begin(), std::min(words.size(), made.words.size()), made.words.begin());
    return made;
  }

  std::string tries(std::vector<TryRecord> list) {
    record_.tries = list;
    return value("tries");
  }

  NameTable names_;
  LineFormatter formatter_{names_};
  SessionRecord record_;
  std::uint32_t omitted_ = 0;
  std::vector<char> text_ = std::vector<char>(LineFormatter::kLineBytesMax);
};

TEST_F(LineTest, ordinary_session) {
  EXPECT_EQ(
      line(),
      "2026-11-21T18:50:17.123Z info session id=42 client=192.0.2.1:4711 service=smtp "
      "vip=192.0.2.200:25 "
      "backend=mx3 src=10.0.0.1:39999 dst=10.0.0.13:25 tries=mx3:ok sticky=- queue_s=0.000000 "
      "connect_s=0.000123 greeting_s=0.004567 total_s=61.000001 to_client=512 to_backend=4096 "
      "early=0 "
      "spoke_last=server state=relaying close_reason=client_closed\n");
}

TEST_F(LineTest, retried_session_over_ipv6) {
  record_.client = *Address::from_ip("2001:db8::7", 65535);
  record_.vip = *Address::from_ip("2001:db8:0:1::25", 25);
  record_.source = *Address::from_ip("::1", 1);
  record_.destination = *Address::from_ip("fe80::1:0:0:2", 25);
  record_.sticky = StickyUse::moved;
  record_.queue_us = 1'500'000;
  record_.early = true;
  record_.client_spoke_last = true;
  record_.close_reason = CloseReason::owed_timeout;
  const std::vector<TryRecord> list{attempt(0, TryOutcome::busy, "421 4.3.2 too busy"),
                                    attempt(1, TryOutcome::refused), attempt(2, TryOutcome::ok)};
  record_.tries = list;
  EXPECT_EQ(line(),
            "2026-11-21T18:50:17.123Z info session id=42 client=[2001:db8::7]:65535 service=smtp "
            "vip=[2001:db8:0:1::25]:25 backend=mx3 src=[::1]:1 dst=[fe80::1:0:0:2]:25 "
            "tries=mx1:421\"4.3.2 too busy\",mx2:refused,mx3:ok sticky=moved queue_s=1.500000 "
            "connect_s=0.000123 "
            "greeting_s=0.004567 total_s=61.000001 to_client=512 to_backend=4096 early=1 "
            "spoke_last=client "
            "state=relaying close_reason=owed_timeout\n");
}

TEST_F(LineTest, refusal_without_a_backend) {
  SessionRecord refused;
  refused.id = UINT64_MAX;
  refused.ended_unix_us = 0;
  refused.client = *Address::from_ip("203.0.113.9", 1);
  refused.vip = *Address::from_ip("192.0.2.200", 25);
  refused.service = ServiceId{0};
  refused.state = SessionState::refusing;
  refused.close_reason = CloseReason::refused;
  refused.refusal = RefusalReason::no_backend;
  record_ = refused;
  EXPECT_EQ(line(),
            "1970-01-01T00:00:00.000Z info session id=18446744073709551615 client=203.0.113.9:1 "
            "service=smtp "
            "vip=192.0.2.200:25 backend=- src=- dst=- tries=- sticky=- queue_s=0.000000 "
            "connect_s=0.000000 "
            "greeting_s=0.000000 total_s=0.000000 to_client=0 to_backend=0 early=0 "
            "spoke_last=server state=refusing "
            "close_reason=refused refusal=no_backend\n");
}

TEST_F(LineTest, start_line) {
  const SessionStart start{7, 951'782'400'999'999, record_.client, record_.vip, ServiceId{0}};
  EXPECT_EQ(std::string(text_.data(), formatter_.session_start(text_.data(), start)),
            "2000-02-29T00:00:00.999Z info session_start id=7 client=192.0.2.1:4711 service=smtp "
            "vip=192.0.2.200:25\n");
}

TEST_F(LineTest, first_try_not_over_is_not_called_good) {
  record_.state = SessionState::connecting;
  record_.close_reason = CloseReason::client_gone;
  EXPECT_EQ(value("tries"), "mx3:-");
}

TEST_F(LineTest, every_outcome_has_its_word) {
  for (std::size_t i = 1; i < kTryOutcomeNames.size(); ++i) {
    const auto outcome = static_cast<TryOutcome>(i);
    EXPECT_EQ(tries({attempt(0, outcome)}), "mx1:" + std::string(name_of(outcome)));
  }
}

TEST_F(LineTest, code_stands_for_the_outcome_only_when_the_server_answered) {
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "421")}), "mx1:421");
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "421 ")}), "mx1:421");
  EXPECT_EQ(tries({attempt(0, TryOutcome::rejected, "554-5.7.1 go away\r\n")}),
            "mx1:554\"5.7.1 go away\"");
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "* BYE full")}), "mx1:busy\"* BYE full\"");
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "4210 x")}), "mx1:busy\"4210 x\"");
  EXPECT_EQ(tries({attempt(0, TryOutcome::closed, "220 hi")}), "mx1:closed\"220 hi\"");
  EXPECT_EQ(tries({attempt(0, TryOutcome::garbage, "HTTP/1.1 400")}),
            "mx1:garbage\"HTTP/1.1 400\"");
}

TEST_F(LineTest, words_of_a_server_cannot_split_or_forge_a_line) {
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "421 a\r\n2026 info session id=1")}),
            R"(mx1:421"a\x0d\x0a2026 info session id=1")");
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "421 x\",mx3:ok state=\\")}),
            R"(mx1:421"x\x22,mx3:ok state=\x5c")");
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "421 \x1b[2J\x7f\t")}),
            R"(mx1:421"\x1b[2J\x7f\x09")");
}

TEST_F(LineTest, utf8_stays_and_what_only_looks_like_it_is_escaped) {
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "421 überlastet €𝄞")}), "mx1:421\"überlastet €𝄞\"");
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "421 \xff\xc0\x80")}),
            R"(mx1:421"\xff\xc0\x80")");  // overlong
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "421 \xed\xa0\x80")}),
            R"(mx1:421"\xed\xa0\x80")");  // surrogate
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "421 \xf4\x90\x80\x80")}),
            R"(mx1:421"\xf4\x90\x80\x80")");  // > 10ffff
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "421 \xe2\x82")}), R"(mx1:421"\xe2\x82")");  // cut
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "421 \xc2\x85")}), R"(mx1:421"\xc2\x85")");  // NEL
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "421 \xe2\x80\xa8")}),
            R"(mx1:421"\xe2\x80\xa8")");  // U+2028
  EXPECT_EQ(tries({attempt(0, TryOutcome::busy, "421 \xe2\x80\xae")}),
            R"(mx1:421"\xe2\x80\xae")");  // RTL override
}

// Whatever 80 bytes a server sends: one newline, at the end; an even number of quotes; only
// printable bytes.
TEST_F(LineTest, random_words_leave_one_well_formed_line) {
  std::mt19937 random(7);
  for (int round = 0; round < 20'000; ++round) {
    TryRecord made = attempt(0, TryOutcome::garbage);
    for (char& byte : made.words) byte = static_cast<char>(random());
    const std::vector<TryRecord> list{made, attempt(2, TryOutcome::ok)};
    record_.tries = list;
    const std::string text = line();
    ASSERT_EQ(text.find('\n'), text.size() - 1);
    ASSERT_EQ(std::count(text.begin(), text.end(), '"') % 2, 0);
    for (const char byte : text.substr(0, text.size() - 1)) {
      ASSERT_TRUE(static_cast<unsigned char>(byte) >= 0x20 && byte != 0x7f);
    }
  }
}

TEST_F(LineTest, longest_line_fits) {
  const std::string name(NameTable::kNameBytesMax, 'n');
  names_.set_backend(BackendId{9}, name, name);
  names_.set_service(ServiceId{9}, name);
  TryRecord worst = attempt(9, TryOutcome::unreachable);
  worst.words.fill('\x01');
  const std::vector<TryRecord> list(kTriesMax, worst);
  record_.tries = list;
  omitted_ = UINT32_MAX;
  record_.service = ServiceId{9};
  record_.backend = BackendId{9};
  record_.id = record_.bytes_to_client = record_.bytes_to_backend = record_.total_us = UINT64_MAX;
  record_.queue_us = record_.connect_us = record_.greeting_us = UINT32_MAX;
  record_.ended_unix_us = INT64_MAX;
  record_.client = record_.vip = record_.source = record_.destination =
      *Address::from_ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
  record_.close_reason = CloseReason::refused;
  record_.refusal = RefusalReason::source_sessions;
  EXPECT_LT(line().size(), LineFormatter::kLineBytesMax);
  EXPECT_GT(line().size(), kTriesMax * (NameTable::kNameBytesMax + 4 * 80));
}

TEST_F(LineTest, omitted_tries_are_counted_before_the_last) {
  omitted_ = 3;
  EXPECT_EQ(tries({attempt(0, TryOutcome::refused), attempt(1, TryOutcome::timeout),
                   attempt(2, TryOutcome::ok)}),
            "mx1:refused,mx2:timeout,+3,mx3:ok");
}

TEST_F(LineTest, time_is_that_of_the_record) {
  const auto time_of = [this](std::int64_t us) {
    record_.ended_unix_us = us;
    return line().substr(0, 24);
  };
  EXPECT_EQ(time_of(1'795'287'017'999'999), "2026-11-21T18:50:17.999Z");
  EXPECT_EQ(time_of(1'795'287'018'000'000), "2026-11-21T18:50:18.000Z");
  EXPECT_EQ(time_of(1'795'287'017'009'000), "2026-11-21T18:50:17.009Z");
  EXPECT_EQ(time_of(1'798'761'599'000'000), "2026-12-31T23:59:59.000Z");
  EXPECT_EQ(time_of(-5), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(time_of(INT64_MAX), "9999-12-31T23:59:59.999Z");
}

TEST(PutAddress, writes_what_the_library_writes) {
  std::mt19937 random(3);
  char out[64];
  const auto check = [&](const Address& address) {
    ASSERT_EQ(std::string(out, put_ip(out, address)), address.ip_text());
    ASSERT_EQ(std::string(out, put_address(out, address)), address.text());
  };
  for (const char* text :
       {"::", "::1", "1::", "1::1", "::ffff:1.2.3.4", "::1.2.3.4", "::ffff:0:0", "1:0:0:2:0:0:0:3",
        "1:0:0:2:0:0:3:0", "1:0:2:0:3:0:4:0", "0:1:0:1:0:1:0:1", "1:2:3:4:5:6:0:0",
        "0:0:3:4:5:6:7:8", "2001:db8::", "fe80::1", "0.0.0.0", "255.255.255.255", "1.20.100.9"}) {
    const auto address = Address::from_ip(text, 0);
    ASSERT_TRUE(address) << text;
    check(*address);
  }
  for (int round = 0; round < 100'000; ++round) {
    Address address;
    address.port = static_cast<std::uint16_t>(random());
    address.family = random() % 4 == 0 ? AF_INET : AF_INET6;
    for (std::size_t i = 0; i < (address.is_v4() ? 4u : 16u); ++i) {
      address.ip[i] = static_cast<std::uint8_t>(random() % 3 == 0 ? random() : 0);
    }
    check(address);
  }
  check(Address{});
}

TEST(NameTable, unknown_absent_and_unset_ids) {
  NameTable names;
  EXPECT_EQ(names.service(ServiceId{}), "-");
  EXPECT_EQ(names.backend(BackendId{5}), "?");
  EXPECT_EQ(names.backend(BackendId{UINT32_MAX - 1}), "?");
  names.set_backend(BackendId{5}, "mx", "mx1");
  EXPECT_EQ(names.backend(BackendId{5}), "mx1");
  EXPECT_EQ(names.backend_path(BackendId{5}), "mx/mx1");
  EXPECT_EQ(names.backend(BackendId{6}), "?");
  names.set_backend(BackendId{70'000}, "imap", "store");
  EXPECT_EQ(names.backend_path(BackendId{70'000}), "imap/store");
  names.set_backend(BackendId{UINT32_MAX - 1}, "too", "many");
  EXPECT_EQ(names.backend(BackendId{UINT32_MAX - 1}), "?");
}

TEST(NameTable, name_stays_readable_after_it_was_replaced) {
  NameTable names;
  names.set_service(ServiceId{0}, "first");
  const std::string_view before = names.service(ServiceId{0});
  names.set_service(ServiceId{0}, "second");
  EXPECT_EQ(before, "first");
  EXPECT_EQ(names.service(ServiceId{0}), "second");
}

TEST(NameTable, name_is_one_word_of_bounded_length) {
  NameTable names;
  names.set_service(ServiceId{0}, "a b=c,d\"e\n");
  EXPECT_EQ(names.service(ServiceId{0}), R"(a\x20b\x3dc\x2cd\x22e\x0a)");
  names.set_service(ServiceId{1}, std::string(127, 'x') + "\n!");
  EXPECT_EQ(names.service(ServiceId{1}), std::string(127, 'x'));
  names.set_service(ServiceId{2}, "");
  EXPECT_EQ(names.service(ServiceId{2}), "-");
}

}  // namespace
}  // namespace poise::log
