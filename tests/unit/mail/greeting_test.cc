// What a server's first words mean, per protocol, and what the gate does about them: the rules of
// the greeting gate as tables.
#include "mail/greeting.h"

#include <gtest/gtest.h>

#include <ostream>
#include <string>

namespace poise::mail {

void PrintTo(GreetingClass kind, std::ostream* out) {
  *out << name_of(kind);
}

namespace {

using enum GreetingClass;

TEST(Greeting, classes_of_first_lines) {
  struct Case {
    Protocol protocol;
    std::string_view line;
    GreetingClass kind;
  };
  const Case cases[] = {
      {Protocol::smtp, "220 mx1 ESMTP Postfix", good},
      {Protocol::smtp, "220-mx1 ESMTP teaser", good},
      {Protocol::smtp, "220", good},
      {Protocol::submission, "220 x", good},
      {Protocol::lmtp, "220 x LMTP", good},
      {Protocol::smtp, "421 4.3.2 All server ports are busy", temporary},
      {Protocol::smtp, "421 mx1 Service not available", temporary},
      {Protocol::smtp, "421", temporary},
      {Protocol::smtp, "450 4.3.2 x", temporary},
      {Protocol::smtp, "454 4.7.0 TLS", temporary},
      {Protocol::smtp, "421 4.7.0 Too many connections from you", policy_421},
      {Protocol::smtp, "421-4.7.28 rate limited", policy_421},
      {Protocol::smtp, "421 4.70.1 x", temporary},
      {Protocol::smtp, "554 5.7.1 no", permanent},
      {Protocol::smtp, "521-5.7.1 blocked", permanent},
      {Protocol::smtp, "250 hello", junk},
      {Protocol::smtp, "354 go", junk},
      {Protocol::smtp, "120 wait", junk},
      {Protocol::smtp, "220_x", junk},
      {Protocol::smtp, "", junk},
      {Protocol::smtp, "SSH-2.0-OpenSSH", junk},
      {Protocol::smtp, "* OK ready", junk},
      {Protocol::imap, "* OK [CAPABILITY IMAP4rev1] ready", good},
      {Protocol::imap, "* ok", good},
      {Protocol::imap, "* PREAUTH ready", good},
      {Protocol::imap, "* BYE [UNAVAILABLE] x", bye},
      {Protocol::imap, "* BYE", bye},
      {Protocol::imap, "* OKAY", junk},
      {Protocol::imap, "* NO x", junk},
      {Protocol::imap, "* CAPABILITY IMAP4rev1", junk},
      {Protocol::imap, "a OK x", junk},
      {Protocol::imap, "220 x", junk},
      {Protocol::pop3, "+OK ready <1@x>", good},
      {Protocol::pop3, "+OK", good},
      {Protocol::pop3, "-ERR [SYS/TEMP] x", bye},
      {Protocol::pop3, "+OKAY", junk},
      {Protocol::pop3, "+ x", junk},
      {Protocol::managesieve, "\"IMPLEMENTATION\" \"Dovecot\"", good},
      {Protocol::managesieve, "OK \"ready\"", good},
      {Protocol::managesieve, "OK", good},
      {Protocol::managesieve, "BYE \"too many\"", bye},
      {Protocol::managesieve, "NO (TRYLATER) \"x\"", bye},
      {Protocol::managesieve, "OKAY", junk},
      {Protocol::managesieve, "* OK", junk},
      {Protocol::tcp, "anything", good},
  };
  for (const Case& c : cases)
    EXPECT_EQ(classify_greeting(c.protocol, c.line), c.kind)
        << name_of(c.protocol) << ": " << c.line;
}

TEST(Greeting, scan_gives_the_same_verdict_whatever_the_pieces) {
  struct Case {
    Protocol protocol;
    std::string_view bytes;
    GreetingClass kind;
    std::string_view line;
  };
  const Case cases[] = {
      {Protocol::smtp, "220-wait\r\n220 mx1\r\n", good, "220-wait"},
      {Protocol::smtp, "220 mx1\n", good, "220 mx1"},
      {Protocol::smtp, "421 4.7.0 x\r\n", policy_421, "421 4.7.0 x"},
      {Protocol::smtp, "554 x\r\n", permanent, "554 x"},
      {Protocol::imap, "* BYE x\r\n", bye, "* BYE x"},
      {Protocol::imap, "* OKAY\r\n", junk, "* OKAY"},
      {Protocol::pop3, "-ERR x\r\n", bye, "-ERR x"},
      {Protocol::managesieve, "\"SIEVE\" \"fileinto\"\r\nOK\r\n", good, "\"SIEVE\" \"fileinto\""},
  };
  for (const Case& c : cases) {
    const std::size_t first_line = c.bytes.find('\n') + 1;
    for (std::size_t have = 0; have <= c.bytes.size(); ++have) {
      const GreetingScan scan = scan_greeting(c.protocol, c.bytes.substr(0, have));
      ASSERT_EQ(scan.decided, have >= first_line) << c.bytes << " after " << have;
      if (!scan.decided) continue;
      EXPECT_EQ(scan.kind, c.kind) << c.bytes;
      EXPECT_EQ(scan.line, c.line) << c.bytes;
    }
  }
}

TEST(Greeting, what_cannot_become_a_greeting_is_junk_at_once) {
  struct Case {
    Protocol protocol;
    std::string_view bytes;
    std::string_view line;
  };
  const Case cases[] = {
      {Protocol::smtp, "\x15\x03\x01", ""},
      {Protocol::smtp, "HTTP/1.1 400 Bad Request\r\n", "HTTP/1.1 400 Bad Request"},
      {Protocol::smtp, "1", ""},
      {Protocol::smtp, "2x", ""},
      {Protocol::imap, "* X", ""},
      {Protocol::imap, "2", ""},
      {Protocol::pop3, "+N", ""},
      {Protocol::pop3, "2", ""},
      {Protocol::managesieve, "* OK\r\n", "* OK"},
      {Protocol::smtp, "\r\n", ""},
  };
  for (const Case& c : cases) {
    const GreetingScan scan = scan_greeting(c.protocol, c.bytes);
    ASSERT_TRUE(scan.decided) << c.bytes;
    EXPECT_EQ(scan.kind, junk) << c.bytes;
    EXPECT_EQ(scan.line, c.line) << c.bytes;
  }
}

TEST(Greeting, endless_line_is_junk_at_the_limit_and_not_before) {
  const std::string line = "220 " + std::string(kMaxGreetingLineBytes, 'x');
  EXPECT_FALSE(
      scan_greeting(Protocol::smtp, std::string_view(line).substr(0, kMaxGreetingLineBytes))
          .decided);
  const GreetingScan scan = scan_greeting(Protocol::smtp, line);
  ASSERT_TRUE(scan.decided);
  EXPECT_EQ(scan.kind, junk);
}

TEST(Greeting, tls_ports_are_judged_by_their_first_byte) {
  EXPECT_FALSE(scan_greeting(Protocol::imaps, "").decided);
  EXPECT_EQ(scan_greeting(Protocol::imaps, "\x16").kind, good);
  EXPECT_EQ(scan_greeting(Protocol::smtps, "\x15").kind, good);  // an alert passes to the client
  EXPECT_EQ(scan_greeting(Protocol::pop3s, "+OK").kind, junk);
}

TEST(Greeting, tcp_needs_none) {
  EXPECT_TRUE(scan_greeting(Protocol::tcp, "").decided);
}

TEST(Verdict, table) {
  struct Case {
    GreetingClass kind;
    bool sees_client;
    bool retry_5xx;
    Verdict verdict;
  };
  const Case cases[] = {
      {good, false, false, Verdict::relay},
      {good, true, true, Verdict::relay},
      {temporary, false, false, Verdict::try_another},
      {temporary, true, false, Verdict::try_another},
      {bye, true, false, Verdict::try_another},
      {junk, false, false, Verdict::try_another},
      {none, false, false, Verdict::try_another},
      {permanent, false, false, Verdict::pass_to_client},
      {permanent, true, false, Verdict::pass_to_client},
      {permanent, false, true, Verdict::try_another},
      {policy_421, true, false, Verdict::pass_to_client},
      {policy_421, false, false, Verdict::try_another},
      {policy_421, true, true, Verdict::pass_to_client},
  };
  for (const Case& c : cases)
    EXPECT_EQ(verdict_of(c.kind, c.sees_client, c.retry_5xx), c.verdict) << name_of(c.kind);
}

TEST(GreetingName, of_real_greetings) {
  EXPECT_EQ(greeting_name(Protocol::smtp, "220 be1.lab.test ESMTP be1"), "be1.lab.test");
  EXPECT_EQ(greeting_name(Protocol::smtp, "220-be1 wait"), "be1");
  EXPECT_EQ(greeting_name(Protocol::imap, "* OK [CAPABILITY IMAP4rev1 SASL-IR] be1 ready."), "be1");
  EXPECT_EQ(greeting_name(Protocol::imap, "* OK be1 ready"), "be1");
  EXPECT_EQ(greeting_name(Protocol::pop3, "+OK be1 ready."), "be1");
  EXPECT_EQ(greeting_name(Protocol::pop3, "+OK"), "");
  EXPECT_EQ(greeting_name(Protocol::smtp, "22"), "");
  EXPECT_EQ(greeting_name(Protocol::imap, "* OK [broken"), "");
}

}  // namespace
}  // namespace poise::mail
