// The dialogues: what each says and concludes, as tables of conversations; and that it makes no
// difference how the server's bytes are cut or joined.
#include "health/dialogue.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace poise::health {
namespace {

using config::ProbeTls;
using config::ProbeType;

/// The server's side: `replies[0]` is the greeting, then one a command. What comes after an empty
/// reply is the end of the connection. "TLS" in place of a reply stands for a finished handshake.
struct Conversation {
  std::string name;
  ProbeRequest request;
  std::vector<std::string> replies;
  std::vector<std::string> said;  ///< by us, a command each, without its line end
  ProbeOutcome outcome = ProbeOutcome::good;
  std::string words;
  std::string step = "done";
};

struct Outcome {
  std::vector<std::string> said;
  Verdict verdict;
  bool finished = false;
};

/// `piece`: how many bytes the server's packets have; 0: each reply whole.
Outcome play(const Conversation& c, std::size_t piece, std::size_t first_cut = 0) {
  Outcome outcome;
  auto dialogue = Dialogue::make(c.request);
  const auto collect = [&] {
    std::string& out = dialogue->output();
    if (!out.empty()) {
      EXPECT_TRUE(out.ends_with("\r\n")) << out;
      EXPECT_EQ(out.find('\n'), out.size() - 1) << "one command a reply: " << out;
      outcome.said.push_back(out.substr(0, out.size() - 2));
      out.clear();
    }
  };
  dialogue->start();
  collect();
  std::size_t sent = 0;  // bytes of the server so far, over all replies
  for (const std::string& reply : c.replies) {
    if (dialogue->want() == Dialogue::Want::finished) break;
    if (reply == "TLS") {
      EXPECT_EQ(dialogue->want(), Dialogue::Want::start_tls);
      dialogue->tls_started();
      collect();
      continue;
    }
    if (reply.empty()) {
      dialogue->ended(Dialogue::End::closed, "closed by the server");
      collect();
      break;
    }
    std::string_view rest = reply;
    while (!rest.empty()) {
      std::size_t size = piece == 0 ? rest.size() : std::min(piece, rest.size());
      if (first_cut > sent && first_cut - sent < rest.size()) size = first_cut - sent;
      dialogue->receive(rest.substr(0, size));
      rest.remove_prefix(size);
      sent += size;
      const bool said = !dialogue->output().empty();
      if (!rest.empty() && said && dialogue->want() != Dialogue::Want::finished)
        ADD_FAILURE() << c.name << ": spoke before the reply was over: " << dialogue->output();
      collect();
    }
  }
  outcome.verdict = dialogue->verdict();
  outcome.finished = dialogue->want() == Dialogue::Want::finished;
  return outcome;
}

ProbeRequest cheap(ProbeType type) {
  ProbeRequest request;
  request.type = type;
  request.hostname = "probe.test";
  return request;
}

ProbeRequest deep(ProbeType type, ProbeTls tls = ProbeTls::none) {
  ProbeRequest request = cheap(type);
  request.deep = true;
  request.tls = tls;
  return request;
}

ProbeRequest with_rcpt(ProbeRequest request) {
  request.steps.rcpt = "probe@lab.test";
  return request;
}

ProbeRequest with_login(ProbeRequest request, bool plain = true) {
  request.steps.login_user = "user";
  request.steps.login_password = "sec\"ret";
  request.steps.allow_plain_login = plain;
  return request;
}

ProbeRequest headed(ProbeRequest request) {
  request.send_proxy = config::SendProxy::v2;
  return request;
}

const std::string kSecret = base64(std::string_view("\0user\0sec\"ret", 13));

std::vector<Conversation> conversations() {
  const std::string caps = "* CAPABILITY IMAP4rev1 SASL-IR STARTTLS AUTH=PLAIN\r\n";
  const std::string sieve =
      "\"IMPLEMENTATION\" \"Dovecot\"\r\n\"SASL\" \"PLAIN LOGIN\"\r\n\"STARTTLS\"\r\nOK "
      "\"ready\"\r\n";
  const auto smtp = ProbeType::smtp;
  const auto imap = ProbeType::imap;
  const auto pop3 = ProbeType::pop3;
  const auto manage = ProbeType::managesieve;
  using O = ProbeOutcome;
  return {
      // SMTP
      {"greeting",
       cheap(smtp),
       {"220 mx1 ESMTP\r\n", "221 bye\r\n"},
       {"QUIT"},
       O::good,
       "220 mx1 ESMTP"},
      {"multi-line greeting",
       cheap(smtp),
       {"220-mx1 wait\r\n220-more\r\n220 mx1\r\n", "221 bye\r\n"},
       {"QUIT"},
       O::good,
       "220 mx1 wait more mx1"},
      {"bare LF", cheap(smtp), {"220 mx1\n", "221 bye\n"}, {"QUIT"}, O::good, "220 mx1"},
      {"closes on QUIT", cheap(smtp), {"220 mx1\r\n", ""}, {"QUIT"}, O::good, "220 mx1"},
      {"421",
       cheap(smtp),
       {"421 4.3.2 shutting down\r\n"},
       {},
       O::busy,
       "421 4.3.2 shutting down",
       "greeting"},
      {"450",
       cheap(smtp),
       {"450 4.3.2 not yet\r\n"},
       {"QUIT"},
       O::busy,
       "450 4.3.2 not yet",
       "greeting"},
      {"554",
       cheap(smtp),
       {"554 5.7.1 go away\r\n"},
       {"QUIT"},
       O::rejected,
       "554 5.7.1 go away",
       "greeting"},
      {"250", cheap(smtp), {"250 hello\r\n"}, {}, O::garbage, "250 hello", "greeting"},
      {"http",
       cheap(smtp),
       {"HTTP/1.1 400 Bad Request\r\n"},
       {},
       O::garbage,
       "HTTP/1.1 400 Bad Request",
       "greeting"},
      {"code changes",
       cheap(smtp),
       {"220-mx1\r\n250 mx1\r\n"},
       {},
       O::garbage,
       "250 mx1",
       "greeting"},
      {"closed at once", cheap(smtp), {""}, {}, O::closed, "[closed by the server]", "greeting"},
      {"closed in the greeting",
       cheap(smtp),
       {"220-mx1\r\n220", ""},
       {},
       O::closed,
       "220 [closed by the server]",
       "greeting"},
      {"closed after the teaser",
       cheap(smtp),
       {"220-mx1\r\n", ""},
       {},
       O::closed,
       "220-mx1 [closed by the server]",
       "greeting"},
      {"ehlo",
       deep(smtp),
       {"220 mx1\r\n", "250-mx1\r\n250 SIZE\r\n", "221 bye\r\n"},
       {"EHLO probe.test", "QUIT"},
       O::good,
       "220 mx1"},
      {"helo",
       deep(smtp),
       {"220 mx1\r\n", "502 what\r\n", "250 mx1\r\n", "221 bye\r\n"},
       {"EHLO probe.test", "HELO probe.test", "QUIT"},
       O::good,
       "220 mx1"},
      {"neither",
       deep(smtp),
       {"220 mx1\r\n", "502 what\r\n", "550 no\r\n"},
       {"EHLO probe.test", "HELO probe.test", "QUIT"},
       O::step_failed,
       "550 no",
       "helo"},
      {"ehlo not now",
       deep(smtp),
       {"220 mx1\r\n", "450 no\r\n"},
       {"EHLO probe.test", "QUIT"},
       O::step_failed,
       "450 no",
       "ehlo"},
      {"421 to ehlo",
       deep(smtp),
       {"220 mx1\r\n", "421 4.3.2 bye\r\n"},
       {"EHLO probe.test"},
       O::busy,
       "421 4.3.2 bye",
       "ehlo"},
      {"closed at ehlo",
       deep(smtp),
       {"220 mx1\r\n", ""},
       {"EHLO probe.test"},
       O::closed,
       "[closed by the server]",
       "ehlo"},
      {"rcpt",
       with_rcpt(deep(smtp)),
       {"220 mx1\r\n", "250 mx1\r\n", "250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "221 bye\r\n"},
       {"EHLO probe.test", "MAIL FROM:<>", "RCPT TO:<probe@lab.test>", "RSET", "QUIT"},
       O::good,
       "250 ok"},
      {"greylisted",
       with_rcpt(deep(smtp)),
       {"220 mx1\r\n", "250 mx1\r\n", "250 ok\r\n", "451 4.7.1 greylisted\r\n", "250 ok\r\n",
        "221 bye\r\n"},
       {"EHLO probe.test", "MAIL FROM:<>", "RCPT TO:<probe@lab.test>", "RSET", "QUIT"},
       O::good,
       "451 4.7.1 greylisted"},
      {"no such user",
       with_rcpt(deep(smtp)),
       {"220 mx1\r\n", "250 mx1\r\n", "250 ok\r\n", "550 5.1.1 no\r\n"},
       {"EHLO probe.test", "MAIL FROM:<>", "RCPT TO:<probe@lab.test>", "QUIT"},
       O::step_failed,
       "550 5.1.1 no",
       "rcpt"},
      {"disk full",
       with_rcpt(deep(smtp)),
       {"220 mx1\r\n", "250 mx1\r\n", "452 4.3.1 full\r\n"},
       {"EHLO probe.test", "MAIL FROM:<>", "QUIT"},
       O::step_failed,
       "452 4.3.1 full",
       "mail"},
      {"starttls",
       deep(smtp, ProbeTls::starttls),
       {"220 mx1\r\n", "250-mx1\r\n250 STARTTLS\r\n", "220 go\r\n", "TLS", "250 mx1\r\n",
        "221 bye\r\n"},
       {"EHLO probe.test", "STARTTLS", "EHLO probe.test", "QUIT"},
       O::good,
       "220 mx1"},
      {"starttls refused",
       deep(smtp, ProbeTls::starttls),
       {"220 mx1\r\n", "250-mx1\r\n250 STARTTLS\r\n", "454 4.7.0 no\r\n"},
       {"EHLO probe.test", "STARTTLS", "QUIT"},
       O::tls_failed,
       "454 4.7.0 no",
       "starttls"},
      {"starttls not offered",
       deep(smtp, ProbeTls::starttls),
       {"220 mx1\r\n", "250 mx1\r\n"},
       {"EHLO probe.test", "QUIT"},
       O::tls_failed,
       "[STARTTLS is not offered]",
       "starttls"},
      {"auth",
       with_login(deep(ProbeType::submission)),
       {"220 mx1\r\n", "250-mx1\r\n250 AUTH PLAIN LOGIN\r\n", "235 ok\r\n", "221 bye\r\n"},
       {"EHLO probe.test", "AUTH PLAIN " + kSecret, "QUIT"},
       O::good,
       "220 mx1"},
      {"auth refused",
       with_login(deep(ProbeType::submission)),
       {"220 mx1\r\n", "250-mx1\r\n250 AUTH PLAIN\r\n", "535 5.7.8 no\r\n"},
       {"EHLO probe.test", "AUTH PLAIN " + kSecret, "QUIT"},
       O::step_failed,
       "535 5.7.8 no",
       "login"},
      {"no auth",
       with_login(deep(ProbeType::submission)),
       {"220 mx1\r\n", "250-mx1\r\n250 AUTH LOGIN\r\n"},
       {"EHLO probe.test", "QUIT"},
       O::step_failed,
       "[AUTH PLAIN is not offered]",
       "login"},
      {"no login without TLS",
       with_login(deep(ProbeType::submission), false),
       {"220 mx1\r\n", "250-mx1\r\n250 AUTH PLAIN\r\n"},
       {"EHLO probe.test", "QUIT"},
       O::step_failed,
       "[not logging in without TLS: credentials would be readable]",
       "login"},
      {"header to a plain port",
       headed(cheap(smtp)),
       {"220 mx1\r\n", "500 5.5.2 bad syntax\r\n"},
       {"QUIT"},
       O::proxy,
       "500 5.5.2 bad syntax",
       "goodbye"},
      {"header, then closed",
       headed(cheap(smtp)),
       {""},
       {},
       O::proxy,
       "[closed by the server, after the PROXY header]",
       "greeting"},
      {"header taken",
       headed(cheap(smtp)),
       {"220 mx1\r\n", "221 bye\r\n"},
       {"QUIT"},
       O::good,
       "220 mx1"},
      {"header to a plain port, deep",
       headed(deep(smtp)),
       {"220 mx1\r\n", "502 what\r\n"},
       {"EHLO probe.test"},
       O::proxy,
       "502 what",
       "ehlo"},
      // LMTP
      {"lmtp",
       with_rcpt(deep(ProbeType::lmtp)),
       {"220 mx1\r\n", "250 mx1\r\n", "250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "221 bye\r\n"},
       {"LHLO probe.test", "MAIL FROM:<>", "RCPT TO:<probe@lab.test>", "RSET", "QUIT"},
       O::good,
       "250 ok"},
      {"lmtp has no HELO",
       deep(ProbeType::lmtp),
       {"220 mx1\r\n", "500 what\r\n"},
       {"LHLO probe.test", "QUIT"},
       O::step_failed,
       "500 what",
       "lhlo"},
      // IMAP
      {"imap",
       cheap(imap),
       {"* OK [CAPABILITY IMAP4rev1] ready\r\n", "* BYE\r\nzz OK bye\r\n"},
       {"zz LOGOUT"},
       O::good,
       "* OK [CAPABILITY IMAP4rev1] ready"},
      {"preauth",
       cheap(imap),
       {"* PREAUTH hello\r\n", "* BYE\r\nzz OK bye\r\n"},
       {"zz LOGOUT"},
       O::good,
       "* PREAUTH hello"},
      {"imap bye", cheap(imap), {"* BYE full\r\n"}, {}, O::bye, "* BYE full", "greeting"},
      {"imap no greeting",
       cheap(imap),
       {"* NO hello\r\n"},
       {},
       O::garbage,
       "* NO hello",
       "greeting"},
      {"imap deep",
       deep(imap),
       {"* OK\r\n", caps + "a1 OK\r\n", "a2 OK\r\n", "* BYE\r\nzz OK\r\n"},
       {"a1 CAPABILITY", "a2 NOOP", "zz LOGOUT"},
       O::good,
       "* OK"},
      {"imap literal",
       deep(imap),
       {"* OK\r\n", "* X {12}\r\nzz NO a1 NO\n more\r\na1 OK\r\n", "a2 OK\r\n", "zz OK\r\n"},
       {"a1 CAPABILITY", "a2 NOOP", "zz LOGOUT"},
       O::good,
       "* OK"},
      {"imap huge literal",
       deep(imap),
       {"* OK\r\n", "* X {99999999999999999999}\r\n"},
       {"a1 CAPABILITY"},
       O::garbage,
       "* X {99999999999999999999}",
       "capability"},
      {"imap starttls",
       deep(imap, ProbeTls::starttls),
       {"* OK\r\n", caps + "a1 OK\r\n", "a2 OK go\r\n", "TLS", caps + "a3 OK\r\n", "a4 OK\r\n",
        "zz OK\r\n"},
       {"a1 CAPABILITY", "a2 STARTTLS", "a3 CAPABILITY", "a4 NOOP", "zz LOGOUT"},
       O::good,
       "* OK"},
      {"imap starttls refused",
       deep(imap, ProbeTls::starttls),
       {"* OK\r\n", caps + "a1 OK\r\n", "a2 BAD no\r\n"},
       {"a1 CAPABILITY", "a2 STARTTLS", "zz LOGOUT"},
       O::tls_failed,
       "a2 BAD no",
       "starttls"},
      {"imap preauth starttls",
       deep(imap, ProbeTls::starttls),
       {"* PREAUTH\r\n", caps + "a1 OK\r\n"},
       {"a1 CAPABILITY", "zz LOGOUT"},
       O::tls_failed,
       "[PREAUTH: there is no STARTTLS after it]",
       "starttls"},
      {"imap login",
       with_login(deep(imap)),
       {"* OK\r\n", caps + "a1 OK\r\n", "a2 OK\r\n", "a3 OK\r\n", "zz OK\r\n"},
       {"a1 CAPABILITY", "a2 AUTHENTICATE PLAIN " + kSecret, "a3 NOOP", "zz LOGOUT"},
       O::good,
       "* OK"},
      {"imap login without SASL-IR",
       with_login(deep(imap)),
       {"* OK\r\n", "* CAPABILITY AUTH=PLAIN\r\na1 OK\r\n", "+ \r\n", "a2 OK\r\n", "a3 OK\r\n",
        "zz OK\r\n"},
       {"a1 CAPABILITY", "a2 AUTHENTICATE PLAIN", kSecret, "a3 NOOP", "zz LOGOUT"},
       O::good,
       "* OK"},
      {"imap LOGIN",
       with_login(deep(imap)),
       {"* OK\r\n", "* CAPABILITY IMAP4rev1\r\na1 OK\r\n", "a2 OK\r\n", "a3 OK\r\n", "zz OK\r\n"},
       {"a1 CAPABILITY", "a2 LOGIN \"user\" \"sec\\\"ret\"", "a3 NOOP", "zz LOGOUT"},
       O::good,
       "* OK"},
      {"imap login refused",
       with_login(deep(imap)),
       {"* OK\r\n", caps + "a1 OK\r\n", "a2 NO [AUTHENTICATIONFAILED] no\r\n"},
       {"a1 CAPABILITY", "a2 AUTHENTICATE PLAIN " + kSecret, "zz LOGOUT"},
       O::step_failed,
       "a2 NO [AUTHENTICATIONFAILED] no",
       "login"},
      {"imap bye later",
       deep(imap),
       {"* OK\r\n", "* BYE shutting down\r\n"},
       {"a1 CAPABILITY"},
       O::bye,
       "* BYE shutting down",
       "capability"},
      {"imap stranger's tag",
       cheap(imap),
       {"* OK\r\n", "b1 OK\r\n"},
       {"zz LOGOUT"},
       O::garbage,
       "b1 OK",
       "goodbye"},
      {"imap header to a plain port",
       headed(cheap(imap)),
       {"* OK\r\n", "PROXY BAD no\r\n"},
       {"zz LOGOUT"},
       O::proxy,
       "PROXY BAD no",
       "goodbye"},
      // POP3
      {"pop3", cheap(pop3), {"+OK ready\r\n", "+OK bye\r\n"}, {"QUIT"}, O::good, "+OK ready"},
      {"pop3 no",
       cheap(pop3),
       {"-ERR [SYS/TEMP] no\r\n"},
       {},
       O::bye,
       "-ERR [SYS/TEMP] no",
       "greeting"},
      {"pop3 deep",
       deep(pop3),
       {"+OK\r\n", "+OK list\r\nSTLS\r\nUSER\r\n.\r\n", "+OK\r\n"},
       {"CAPA", "QUIT"},
       O::good,
       "+OK"},
      {"pop3 without CAPA",
       deep(pop3),
       {"+OK\r\n", "-ERR what\r\n", "+OK\r\n"},
       {"CAPA", "QUIT"},
       O::good,
       "+OK"},
      {"pop3 stls",
       deep(pop3, ProbeTls::starttls),
       {"+OK\r\n", "+OK\r\nSTLS\r\n.\r\n", "+OK go\r\n", "TLS", "+OK\r\n"},
       {"CAPA", "STLS", "QUIT"},
       O::good,
       "+OK"},
      {"pop3 stls not offered",
       deep(pop3, ProbeTls::starttls),
       {"+OK\r\n", "+OK\r\n.\r\n"},
       {"CAPA", "QUIT"},
       O::tls_failed,
       "[STLS is not offered]",
       "stls"},
      {"pop3 login",
       with_login(deep(pop3)),
       {"+OK\r\n", "+OK\r\n.\r\n", "+OK\r\n", "+OK\r\n", "+OK 3 99\r\n", "+OK\r\n"},
       {"CAPA", "USER user", "PASS sec\"ret", "STAT", "QUIT"},
       O::good,
       "+OK"},
      {"pop3 login refused",
       with_login(deep(pop3)),
       {"+OK\r\n", "+OK\r\n.\r\n", "+OK\r\n", "-ERR [AUTH] no\r\n"},
       {"CAPA", "USER user", "PASS sec\"ret", "QUIT"},
       O::step_failed,
       "-ERR [AUTH] no",
       "login"},
      {"pop3 header to a plain port",
       headed(cheap(pop3)),
       {"+OK\r\n", "-ERR Unknown command\r\n"},
       {"QUIT"},
       O::proxy,
       "-ERR Unknown command",
       "goodbye"},
      // ManageSieve
      {"sieve", cheap(manage), {sieve, "OK \"bye\"\r\n"}, {"LOGOUT"}, O::good, "OK \"ready\""},
      {"sieve literal",
       cheap(manage),
       {"\"X\" {3}\r\nNO\n\r\nOK {4}\r\nBYE\n\r\n", "OK\r\n"},
       {"LOGOUT"},
       O::good,
       "OK {4}"},
      {"sieve bye", cheap(manage), {"BYE \"full\"\r\n"}, {}, O::bye, "BYE \"full\"", "greeting"},
      {"sieve deep",
       deep(manage),
       {sieve, sieve, "OK\r\n"},
       {"CAPABILITY", "LOGOUT"},
       O::good,
       "OK \"ready\""},
      {"sieve starttls",
       deep(manage, ProbeTls::starttls),
       {sieve, "OK\r\n", "TLS", sieve, sieve, "OK\r\n"},
       {"STARTTLS", "CAPABILITY", "LOGOUT"},
       O::good,
       "OK \"ready\""},
      {"sieve starttls refused",
       deep(manage, ProbeTls::starttls),
       {sieve, "NO \"no\"\r\n"},
       {"STARTTLS", "LOGOUT"},
       O::tls_failed,
       "NO \"no\"",
       "starttls"},
      {"sieve login",
       with_login(deep(manage)),
       {sieve, "OK\r\n", "OK\r\n"},
       {"AUTHENTICATE \"PLAIN\" \"" + kSecret + "\"", "LOGOUT"},
       O::good,
       "OK \"ready\""},
      {"sieve login refused",
       with_login(deep(manage)),
       {sieve, "NO \"no\"\r\n"},
       {"AUTHENTICATE \"PLAIN\" \"" + kSecret + "\"", "LOGOUT"},
       O::step_failed,
       "NO \"no\"",
       "login"},
      // tcp
      {"tcp", cheap(ProbeType::tcp), {}, {}, O::good, ""},
  };
}

void expect_as_told(const Conversation& c, const Outcome& outcome, const std::string& how) {
  EXPECT_TRUE(outcome.finished) << c.name << how;
  EXPECT_EQ(name_of(outcome.verdict.outcome), name_of(c.outcome))
      << c.name << how << ": " << outcome.verdict.words;
  EXPECT_EQ(outcome.verdict.words, c.words) << c.name << how;
  EXPECT_EQ(outcome.verdict.step, c.step) << c.name << how;
  EXPECT_EQ(outcome.said, c.said) << c.name << how;
}

TEST(Dialogue, says_and_concludes_what_the_table_tells) {
  for (const Conversation& c : conversations()) expect_as_told(c, play(c, 0), "");
}

TEST(Dialogue, cut_at_every_byte_it_is_the_same) {
  for (const Conversation& c : conversations()) {
    std::size_t bytes = 0;
    for (const std::string& reply : c.replies) bytes += reply.size();
    for (std::size_t cut = 1; cut < bytes; ++cut) {
      const Outcome outcome = play(c, 0, cut);
      // What can no longer become a greeting is judged before its end has come.
      if (c.outcome == ProbeOutcome::garbage && c.step == "greeting") {
        EXPECT_EQ(outcome.verdict.outcome, c.outcome) << c.name;
        EXPECT_TRUE(c.words.starts_with(outcome.verdict.words)) << c.name;
      } else {
        expect_as_told(c, outcome, " cut at " + std::to_string(cut));
      }
    }
  }
}

TEST(Dialogue, byte_by_byte_it_is_the_same) {
  for (const Conversation& c : conversations())
    if (c.outcome != ProbeOutcome::garbage) expect_as_told(c, play(c, 1), " byte by byte");
}

TEST(Dialogue, joined_replies_lead_to_the_same_outcome) {
  for (const Conversation& c : conversations()) {
    std::string all;
    bool whole = true;
    for (const std::string& reply : c.replies) {
      whole = whole && reply != "TLS" && !reply.empty();
      all += reply;
    }
    if (!whole) continue;
    auto dialogue = Dialogue::make(c.request);
    dialogue->start();
    dialogue->receive(all);
    EXPECT_EQ(dialogue->want(), Dialogue::Want::finished) << c.name;
    EXPECT_EQ(dialogue->verdict().outcome, c.outcome) << c.name;
    EXPECT_EQ(dialogue->verdict().words, c.words) << c.name;
  }
}

TEST(Dialogue, plaintext_after_starttls_is_an_injection) {
  for (const auto& [type, greeting, offer, go_ahead] :
       std::vector<std::tuple<ProbeType, std::string, std::string, std::string>>{
           {ProbeType::smtp, "220 mx1\r\n", "250-mx1\r\n250 STARTTLS\r\n", "220 go\r\n"},
           {ProbeType::imap, "* OK\r\n", "* CAPABILITY STARTTLS\r\na1 OK\r\n", "a2 OK\r\n"},
           {ProbeType::pop3, "+OK\r\n", "+OK\r\nSTLS\r\n.\r\n", "+OK\r\n"},
           {ProbeType::managesieve, "\"STARTTLS\"\r\nOK\r\n", "", "OK\r\n"}}) {
    for (const bool joined : {true, false}) {
      const ProbeRequest request = deep(type, ProbeTls::starttls);
      auto dialogue = Dialogue::make(request);
      dialogue->start();
      dialogue->receive(greeting);
      dialogue->receive(offer);
      if (joined) {
        dialogue->receive(go_ahead + "250 injected\r\n");
      } else {
        dialogue->receive(go_ahead);
        EXPECT_EQ(dialogue->want(), Dialogue::Want::start_tls);
        dialogue->receive("250 injected\r\n");
      }
      ASSERT_EQ(dialogue->want(), Dialogue::Want::finished);
      EXPECT_EQ(dialogue->verdict().outcome, ProbeOutcome::tls_failed);
      EXPECT_EQ(dialogue->verdict().words, "[plaintext after STARTTLS was accepted: 250 injected]");
    }
  }
}

TEST(Dialogue, endless_replies_are_bounded) {
  for (const ProbeType type : {ProbeType::smtp, ProbeType::lmtp, ProbeType::imap, ProbeType::pop3,
                               ProbeType::managesieve}) {
    const bool is_smtp = type == ProbeType::smtp || type == ProbeType::lmtp;
    const std::string greeting = is_smtp                   ? "220 mx1\r\n"
                                 : type == ProbeType::imap ? "* OK\r\n"
                                 : type == ProbeType::pop3 ? "+OK\r\n"
                                                           : "OK\r\n";
    const std::string line = is_smtp                   ? "250-X\r\n"
                             : type == ProbeType::imap ? "* X\r\n"
                             : type == ProbeType::pop3 ? "X\r\n"
                                                       : "\"X\"\r\n";
    const ProbeRequest request = deep(type);
    auto dialogue = Dialogue::make(request);
    dialogue->start();
    dialogue->receive(greeting);
    if (type == ProbeType::pop3) dialogue->receive("+OK list follows\r\n");
    std::size_t lines = 0;
    while (dialogue->want() == Dialogue::Want::bytes && lines < 2 * Dialogue::kMaxReplyLines) {
      dialogue->receive(line);
      ++lines;
    }
    EXPECT_EQ(dialogue->verdict().outcome, ProbeOutcome::garbage) << static_cast<int>(type);
    EXPECT_LE(lines, Dialogue::kMaxReplyLines + 1);
  }
}

TEST(Dialogue, an_endless_line_is_not_waited_out) {
  for (const ProbeType type :
       {ProbeType::smtp, ProbeType::imap, ProbeType::pop3, ProbeType::managesieve}) {
    const ProbeRequest request = cheap(type);
    auto dialogue = Dialogue::make(request);
    dialogue->start();
    dialogue->receive(type == ProbeType::smtp   ? "220 "
                      : type == ProbeType::imap ? "* OK "
                      : type == ProbeType::pop3 ? "+OK "
                                                : "\"");
    std::size_t bytes = 0;
    for (; dialogue->want() == Dialogue::Want::bytes && bytes < 100000; bytes += 100)
      dialogue->receive(std::string(100, 'x'));
    EXPECT_EQ(dialogue->verdict().outcome, ProbeOutcome::garbage);
    EXPECT_LE(bytes, Dialogue::kMaxLineBytes + 300);
  }
}

TEST(Dialogue, a_distrusted_server_is_told_goodbye) {
  const ProbeRequest request = deep(ProbeType::smtp, ProbeTls::starttls);
  auto dialogue = Dialogue::make(request);
  dialogue->start();
  dialogue->receive("220 mx1\r\n");
  dialogue->receive("250-mx1\r\n250 STARTTLS\r\n");
  dialogue->receive("220 go\r\n");
  dialogue->output().clear();
  dialogue->distrust("[expired]");
  dialogue->tls_started();
  EXPECT_EQ(dialogue->output(), "QUIT\r\n");
  EXPECT_EQ(dialogue->want(), Dialogue::Want::finished);
  EXPECT_EQ(dialogue->verdict().outcome, ProbeOutcome::certificate);
  EXPECT_EQ(dialogue->verdict().words, "[expired]");
}

TEST(Dialogue, only_a_final_no_is_about_the_credentials) {
  struct Case {
    ProbeType type;
    std::vector<std::string> before;
    std::string answer;
    bool auth_failed;
  };
  const Case cases[] = {
      {ProbeType::submission,
       {"220 x\r\n", "250-x\r\n250 AUTH PLAIN\r\n"},
       "535 5.7.8 no\r\n",
       true},
      {ProbeType::submission,
       {"220 x\r\n", "250-x\r\n250 AUTH PLAIN\r\n"},
       "454 4.7.0 later\r\n",
       false},
      {ProbeType::imap,
       {"* OK\r\n", "* CAPABILITY AUTH=PLAIN SASL-IR\r\na1 OK\r\n"},
       "a2 NO no\r\n",
       true},
      {ProbeType::imap,
       {"* OK\r\n", "* CAPABILITY AUTH=PLAIN SASL-IR\r\na1 OK\r\n"},
       "a2 NO [UNAVAILABLE] later\r\n",
       false},
      {ProbeType::pop3, {"+OK\r\n", "-ERR\r\n", "+OK\r\n"}, "-ERR [AUTH] no\r\n", true},
      {ProbeType::pop3, {"+OK\r\n", "-ERR\r\n", "+OK\r\n"}, "-ERR [SYS/TEMP] later\r\n", false},
      {ProbeType::managesieve, {"\"SASL\" \"PLAIN\"\r\nOK\r\n"}, "NO \"no\"\r\n", true},
      {ProbeType::managesieve, {"\"SASL\" \"PLAIN\"\r\nOK\r\n"}, "NO (TRYLATER) \"x\"\r\n", false},
  };
  for (const Case& c : cases) {
    const ProbeRequest request = with_login(deep(c.type));
    auto dialogue = Dialogue::make(request);
    dialogue->start();
    for (const std::string& reply : c.before) dialogue->receive(reply);
    dialogue->receive(c.answer);
    EXPECT_EQ(dialogue->verdict().outcome, ProbeOutcome::step_failed) << c.answer;
    EXPECT_EQ(dialogue->verdict().auth_failed, c.auth_failed) << c.answer;
    EXPECT_TRUE(dialogue->verdict().greeting_good);
  }
}

TEST(Dialogue, passwords_are_never_in_the_transcript) {
  std::vector<Conversation> all = conversations();
  for (Conversation& c : all) {
    if (c.request.steps.login_user.empty()) continue;
    c.request.keep_transcript = true;
    auto dialogue = Dialogue::make(c.request);
    dialogue->start();
    for (const std::string& reply : c.replies) dialogue->receive(reply);
    std::string transcript;
    for (const TranscriptLine& line : dialogue->take_lines()) transcript += line.text + "\n";
    EXPECT_FALSE(transcript.empty());
    EXPECT_EQ(transcript.find("sec"), std::string::npos) << c.name << transcript;
    EXPECT_EQ(transcript.find(kSecret), std::string::npos) << c.name << transcript;
  }
}

TEST(Dialogue, a_login_with_a_line_end_is_not_sent) {
  ProbeRequest request = with_login(deep(ProbeType::pop3));
  request.steps.login_password = "x\r\nDELE 1";
  auto dialogue = Dialogue::make(request);
  dialogue->start();
  for (const char* reply : {"+OK\r\n", "-ERR\r\n"}) dialogue->receive(reply);
  EXPECT_EQ(dialogue->verdict().outcome, ProbeOutcome::step_failed);
  EXPECT_EQ(dialogue->output().find("DELE"), std::string::npos);
}

TEST(Dialogue, the_transcript_is_bounded) {
  ProbeRequest request = deep(ProbeType::imap);
  request.keep_transcript = true;
  auto dialogue = Dialogue::make(request);
  dialogue->start();
  dialogue->receive("* OK\r\n");
  for (int i = 0; i < 400; ++i) dialogue->receive("* X\r\n");
  const std::vector<TranscriptLine> lines = dialogue->take_lines();
  EXPECT_EQ(lines.size(), ProbeResult::kMaxTranscriptLines + 1);
  EXPECT_EQ(lines.back().text, "[and more]");
}

TEST(Printable, table) {
  EXPECT_EQ(printable("220 ok\r\n"), "220 ok");
  EXPECT_EQ(printable("a\nb"), "a b");
  EXPECT_EQ(printable(std::string_view("\x1b[2J\0", 5)), "\\x1b[2J\\x00");
  EXPECT_EQ(printable(std::string(1000, 'x')).size(), ProbeResult::kMaxWordsBytes);
  EXPECT_LE(printable(std::string(1000, '\1')).size(), ProbeResult::kMaxWordsBytes);
  EXPECT_EQ(printable("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
}

TEST(Base64, rfc_4648_vectors) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
}

}  // namespace
}  // namespace poise::health
