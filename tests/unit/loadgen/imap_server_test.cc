// The IMAP server's dialogue: states, literals, sequence sets, FETCH, SEARCH, STORE, EXPUNGE; in
// any pieces.
#include <gtest/gtest.h>

#include <string>

#include "conversation.h"
#include "loadgen/server/imap_command.h"

namespace poise::loadgen {
namespace {

/// Logged in, INBOX selected, three messages.
struct SelectedInbox : ServerUnderTest {
  SelectedInbox() : ServerUnderTest(Protocol::imap) {
    greet();
    say("a LOGIN u p\r\nb SELECT INBOX\r\n");
  }
};

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

TEST(ImapServer, whole_session_in_any_pieces) {
  const std::string input =
      "a1 CAPABILITY\r\na2 LOGIN {1}\r\nu \"se\\\"cret\"\r\na3 SELECT \"inbox\"\r\na4 FETCH 2 (UID "
      "BODY.PEEK[])\r\n"
      "a5 APPEND INBOX (\\Seen) \"01-Jan-2026 00:00:00 +0000\" {39+}\r\nX-Poise-Load-Id: "
      "run-9\r\n\r\nbody\r\n)({}\r\n\r\n"
      "a6 IDLE\r\nDONE\r\na7 LOGOUT\r\n";
  std::string whole;
  for (std::size_t piece = input.size(); piece > 0; --piece) {
    ServerUnderTest server(Protocol::imap, 3, "se\"cret");
    server.greet();
    const std::string answers = server.say(input, piece);
    if (whole.empty()) whole = answers;
    ASSERT_EQ(answers, whole) << piece;
    ASSERT_EQ(server.sink.ids, std::vector<std::string>{"run-9"});
    ASSERT_EQ(server.sink.sizes, std::vector<std::uint64_t>{39});
    ASSERT_TRUE(server.wire.goodbye);
  }
  EXPECT_TRUE(has(whole, "a2 OK")) << whole.substr(0, 300);
  EXPECT_TRUE(has(whole, "* 3 EXISTS\r\n"));
  EXPECT_TRUE(has(whole, "* 2 FETCH (UID 2 BODY[] {2000}\r\nDate: "));
  EXPECT_TRUE(has(whole, "a4 OK"));
  EXPECT_TRUE(has(whole, "a5 OK"));
  EXPECT_TRUE(has(whole, "+ idling\r\na6 OK"));
  EXPECT_TRUE(has(whole, "* BYE"));
  EXPECT_TRUE(whole.ends_with("a7 OK Logout completed.\r\n"));
}

TEST(ImapServer, what_needs_a_login_or_a_mailbox_says_so) {
  ServerUnderTest server(Protocol::imap, 3, "secret");
  server.greet();
  EXPECT_TRUE(has(server.say("a SELECT INBOX\r\n"), "a BAD"));
  EXPECT_TRUE(has(server.say("b LOGIN u wrong\r\n"), "b NO [AUTHENTICATIONFAILED]"));
  EXPECT_TRUE(has(server.say("c AUTHENTICATE PLAIN AHUAc2VjcmV0\r\n"), "c OK"));
  EXPECT_TRUE(has(server.say("d FETCH 1 FLAGS\r\n"), "d BAD"));
  EXPECT_TRUE(has(server.say("e SELECT Drafts\r\n"), "e NO [NONEXISTENT]"));
  EXPECT_TRUE(has(server.say("f STATUS INBOX (MESSAGES UNSEEN UIDNEXT UIDVALIDITY RECENT)\r\n"),
                  "* STATUS INBOX (MESSAGES 3 UNSEEN 3 UIDNEXT 4 UIDVALIDITY 1 RECENT 0)"));
  EXPECT_TRUE(has(server.say("g LIST \"\" \"*\"\r\n"), "* LIST (\\HasNoChildren) \"/\" INBOX"));
}

TEST(ImapServer, sasl_in_two_steps_and_cancelled) {
  ServerUnderTest server(Protocol::imap, 3, "secret");
  server.greet();
  EXPECT_EQ(server.say("a AUTHENTICATE PLAIN\r\n"), "+ \r\n");
  EXPECT_TRUE(has(server.say("*\r\n"), "a BAD"));
  server.say("b AUTHENTICATE PLAIN\r\n");
  EXPECT_TRUE(has(server.say("AHUAc2VjcmV0\r\n"), "b OK"));
}

TEST(ImapServer, sequence_sets) {
  struct Case {
    std::string_view set;
    std::string_view found;
  };
  const Case cases[] = {
      {"1", "1"},     {"1:3", "1 2 3"}, {"3:1", "1 2 3"}, {"*", "3"},
      {"2:*", "2 3"}, {"*:2", "2 3"},   {"1,3", "1 3"},   {"9", ""},
      {"9:*", "3"},   {"1,1", "1"},     {"UID 2", "2"},   {"UID 2:*", "2 3"},
  };
  for (const Case& c : cases) {
    SelectedInbox server;
    const std::string expected =
        "* SEARCH" + (c.found.empty() ? "" : " " + std::string(c.found)) + "\r\n";
    EXPECT_TRUE(server.say("s SEARCH " + std::string(c.set) + "\r\n").starts_with(expected))
        << c.set;
  }
  SelectedInbox server;
  for (const std::string_view wrong : {"0", "1:", "a", "1,,2", ",", "1,", "-1"}) {
    EXPECT_TRUE(has(server.say("s FETCH " + std::string(wrong) + " FLAGS\r\n"), "s BAD")) << wrong;
  }
}

TEST(ImapServer, search_keys) {
  struct Case {
    std::string_view keys;
    std::string_view found;
  };
  const Case cases[] = {
      {"ALL", "1 2 3"},
      {"SEEN", "2"},
      {"UNSEEN", "1 3"},
      {"NOT SEEN", "1 3"},
      {"OR SEEN 3", "2 3"},
      {"(1:2 UNSEEN)", "1"},
      {"SUBJECT \"message 3\"", "3"},
      {"FROM sender TO user", "1 2 3"},
      {"HEADER Message-ID 2.mailbox", "2"},
      {"CC x", ""},
      {"LARGER 1999", "1 2 3"},
      {"SMALLER 2000", ""},
      {"SINCE 1-Jan-2026", "1 2 3"},
      {"BEFORE 1-Jan-2026", ""},
      {"ON 1-Jan-2026 UNDELETED", "1 2 3"},
      {"CHARSET UTF-8 ALL", "1 2 3"},
      {"TEXT poise-load.test", "1 2 3"},
      {"NEW", ""},
  };
  for (const Case& c : cases) {
    SelectedInbox server;
    server.say("f STORE 2 +FLAGS (\\Seen)\r\n");
    const std::string expected =
        "* SEARCH" + (c.found.empty() ? "" : " " + std::string(c.found)) + "\r\n";
    EXPECT_TRUE(server.say("s SEARCH " + std::string(c.keys) + "\r\n").starts_with(expected))
        << c.keys;
  }
  SelectedInbox server;
  for (const std::string_view wrong :
       {"NOT", "OR SEEN", "(SEEN", "LARGER x", "SUBJECT", "SINCE yesterday", ")"}) {
    EXPECT_TRUE(has(server.say("s SEARCH " + std::string(wrong) + "\r\n"), "s BAD")) << wrong;
  }
}

TEST(ImapServer, deep_nesting_is_refused) {
  SelectedInbox server;
  EXPECT_TRUE(
      has(server.say("s SEARCH " + std::string(200, '(') + "ALL" + std::string(200, ')') + "\r\n"),
          "s BAD"));
}

TEST(ImapServer, body_sets_seen_and_tells_peek_and_examine_do_not) {
  SelectedInbox server;
  EXPECT_FALSE(has(server.say("a FETCH 1 BODY.PEEK[TEXT]\r\n"), "FLAGS"));
  EXPECT_TRUE(has(server.say("b FETCH 1 BODY[TEXT]\r\n"), " FLAGS (\\Seen))\r\n"));
  EXPECT_FALSE(has(server.say("c FETCH 1 RFC822\r\n"), "FLAGS"));  // told once
  server.say("d EXAMINE INBOX\r\n");
  EXPECT_FALSE(has(server.say("e FETCH 1 BODY[]\r\n"), "FLAGS"));
  EXPECT_TRUE(has(server.say("f STORE 1 +FLAGS (\\Deleted)\r\n"), "f NO"));
}

TEST(ImapServer, sections) {
  SelectedInbox server;
  const std::string& text = server.mailbox.messages()[0].text;
  const std::size_t header = server.mailbox.messages()[0].header_bytes;
  const auto fetch = [&](const std::string& item) {
    return server.say("a FETCH 1 " + item + "\r\n");
  };
  const auto literal = [](std::string_view label, std::string_view bytes) {
    return "* 1 FETCH (" + std::string(label) + " {" + std::to_string(bytes.size()) + "}\r\n" +
           std::string(bytes) + ")\r\n";
  };
  EXPECT_TRUE(fetch("BODY.PEEK[]").starts_with(literal("BODY[]", text)));
  EXPECT_TRUE(fetch("RFC822.HEADER").starts_with(literal("RFC822.HEADER", text.substr(0, header))));
  EXPECT_TRUE(
      fetch("BODY.PEEK[HEADER]").starts_with(literal("BODY[HEADER]", text.substr(0, header))));
  EXPECT_TRUE(fetch("BODY.PEEK[TEXT]").starts_with(literal("BODY[TEXT]", text.substr(header))));
  EXPECT_TRUE(fetch("BODY.PEEK[1]").starts_with(literal("BODY[1]", text.substr(header))));
  EXPECT_TRUE(fetch("BODY.PEEK[]<10.20>").starts_with(literal("BODY[]<10>", text.substr(10, 20))));
  EXPECT_TRUE(
      fetch("BODY.PEEK[]<1990.20>").starts_with(literal("BODY[]<1990>", text.substr(1990))));
  EXPECT_TRUE(fetch("BODY.PEEK[]<5000.20>").starts_with(literal("BODY[]<5000>", "")));
  EXPECT_TRUE(fetch("BODY.PEEK[HEADER.FIELDS (SUBJECT X-None)]")
                  .starts_with(literal("BODY[HEADER.FIELDS (SUBJECT X-None)]",
                                       "Subject: Message 1\r\n\r\n")));
  EXPECT_FALSE(has(fetch("BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT)]"), "Subject:"));
  EXPECT_TRUE(has(fetch("FAST"), "RFC822.SIZE 2000"));
  EXPECT_TRUE(has(fetch("FULL"), "BODY (\"TEXT\" \"PLAIN\""));
  for (const char* wrong :
       {"NONSENSE", "BODY[", "BODY[]<5>", "()", "(FLAGS", "BODY[HEADER.FIELDS SUBJECT]"}) {
    EXPECT_TRUE(has(fetch(wrong), "a BAD")) << wrong;
  }
}

TEST(ImapServer, expunge_renumbers_as_it_goes) {
  SelectedInbox server;
  server.say("a STORE 1,2 +FLAGS.SILENT (\\Deleted)\r\n");
  EXPECT_EQ(server.say("b EXPUNGE\r\n"),
            "* 1 EXPUNGE\r\n* 1 EXPUNGE\r\nb OK Expunge completed.\r\n");
  EXPECT_TRUE(has(server.say("c UID FETCH 1:* FLAGS\r\n"), "* 1 FETCH (UID 3 FLAGS ())"));
  server.say("d SELECT INBOX\r\n");
  EXPECT_TRUE(has(server.say("e SEARCH ALL\r\n"), "* SEARCH 1 2 3\r\n"));
}

TEST(ImapServer, uid_expunge_takes_only_those_named) {
  SelectedInbox server;
  server.say("a STORE 1:3 +FLAGS.SILENT (\\Deleted)\r\n");
  EXPECT_EQ(server.say("b UID EXPUNGE 2\r\n"), "* 2 EXPUNGE\r\nb OK Expunge completed.\r\n");
}

TEST(ImapServer, append_waits_for_the_go_ahead_and_refuses_what_is_too_big) {
  SelectedInbox server;
  EXPECT_EQ(server.say("a APPEND INBOX {5}\r\n"), "+ Go ahead\r\n");
  EXPECT_TRUE(has(server.say("12345\r\n"), "a OK"));
  EXPECT_TRUE(has(server.say("b APPEND INBOX {10001}\r\nc NOOP\r\n"), "b NO [TOOBIG]"));
  const std::string answers =
      server.say("d APPEND INBOX {10001+}\r\n" + std::string(10001, 'x') + "\r\ne NOOP\r\n", 999);
  EXPECT_TRUE(has(answers, "d BAD") && has(answers, "e OK")) << answers;
  EXPECT_TRUE(has(server.say("f APPEND Sent {2+}\r\nxx\r\n"), "f NO [TRYCREATE]"));
  EXPECT_EQ(server.sink.ids.size(), 1u);
}

TEST(ImapServer, nonsense_is_bad_and_in_the_end_goodbye) {
  ServerUnderTest server(Protocol::imap);
  server.greet();
  EXPECT_TRUE(has(server.say("a LOGIN \"unclosed\r\n"), "a BAD"));
  EXPECT_TRUE(has(server.say("lonely\r\n"), "lonely BAD"));
  EXPECT_EQ(server.say("\r\n"), "");
  EXPECT_TRUE(has(server.say(std::string(20'000, 'x') + "\r\n"), " BAD"));
  std::string nonsense;
  for (int at = 0; at < 100; ++at) nonsense += "x FOO\r\n";
  EXPECT_TRUE(server.say(nonsense).ends_with("* BYE Too many errors\r\n"));
  EXPECT_TRUE(server.wire.close);
}

TEST(ImapServer, refusing_greeting_closes) {
  ServerUnderTest server(Protocol::imap);
  EXPECT_EQ(server.greet(refusal_greeting(Protocol::imap, "mx1", true)),
            "* BYE [UNAVAILABLE] mx1 not available, try later\r\n");
  EXPECT_TRUE(server.wire.close);
}

TEST(ImapCommand, tokens) {
  ImapCommandReader reader;
  std::string_view bytes =
      "a1 FETCH 1:2,4 (FLAGS BODY[HEADER.FIELDS (TO \"X Y\")]<0.9> \"q\\\"q\")\r\n";
  std::string_view piece;
  ASSERT_EQ(reader.next(bytes, piece), ImapCommandReader::Status::command);
  std::string joined;
  for (const ImapToken& token : reader.tokens()) {
    switch (token.kind) {
      case ImapToken::Kind::open:
        joined += "[(";
        break;
      case ImapToken::Kind::close:
        joined += "[)";
        break;
      case ImapToken::Kind::atom:
        joined += "[a:" + token.text;
        break;
      case ImapToken::Kind::string:
        joined += "[s:" + token.text;
        break;
    }
  }
  EXPECT_EQ(joined,
            "[a:a1[a:FETCH[a:1:2,4[([a:FLAGS[a:BODY[HEADER.FIELDS (TO \"X Y\")]<0.9>[s:q\"q[)");
}

TEST(ImapCommand, literals_that_never_end_are_bounded) {
  ServerUnderTest server(Protocol::imap);
  server.greet();
  std::string input = "a LOGIN";
  for (int at = 0; at < 100; ++at) input += " {65536+}\r\n" + std::string(65536, 'x');
  EXPECT_TRUE(has(server.say(input + "\r\nb NOOP\r\n", 4096), "b OK"));
}

}  // namespace
}  // namespace poise::loadgen
