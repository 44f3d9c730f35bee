// The client's dialogues: with our own servers in any pieces, and with servers that refuse, break
// off or talk nonsense.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "conversation.h"
#include "loadgen/client/dialogue.h"

namespace poise::loadgen {
namespace {

using State = ClientDialogue::State;

struct ClientUnderTest {
  explicit ClientUnderTest(Script script_, std::uint64_t session = 0)
      : script(std::move(script_)),
        messages("run", 1500, "a@b", "c@d"),
        dialogue(make_client_dialogue(script, messages, session)) {}

  std::string say(std::string_view input) {
    dialogue->receive(input, wire);
    std::string text = wire.out.text();
    wire.out.clear();
    return text;
  }

  Script script;
  MessageMaker messages;
  ClientWire wire;
  std::unique_ptr<ClientDialogue> dialogue;
};

Script script_for(Protocol protocol) {
  return usual_script(protocol);
}

/// Lets both talk until neither has anything to say, in random pieces.
void converse(ServerUnderTest& server, ClientUnderTest& client, unsigned seed) {
  std::mt19937 random(seed);
  std::string to_client = server.greet();
  std::string to_server;
  while (!to_client.empty() || !to_server.empty()) {
    std::string& from =
        to_server.empty() || (!to_client.empty() && random() % 2 == 0) ? to_client : to_server;
    const std::string piece = from.substr(0, random() % (random() % 8 == 0 ? 4000 : 30) + 1);
    from.erase(0, piece.size());
    if (&from == &to_client)
      to_server += client.say(piece);
    else
      to_client += server.say(piece);
  }
}

TEST(Client, comes_to_an_understanding_with_every_server) {
  struct Case {
    Script script;
    std::size_t accepted;
    unsigned fetches;
  };
  std::vector<Case> cases;
  for (const Protocol protocol : {Protocol::smtp, Protocol::submission, Protocol::lmtp}) {
    for (const bool pipelining : {false, true}) {
      Script script = script_for(protocol);
      script.pipelining = pipelining;
      script.recipients = 3;
      script.actions.assign(4, {Action::Verb::message});
      cases.push_back({script, 4, 0});
    }
  }
  cases.push_back({script_for(Protocol::imap), 0, 1});
  cases.push_back({script_for(Protocol::pop3), 0, 1});
  for (const Case& c : cases) {
    for (unsigned seed = 0; seed < 50; ++seed) {
      ServerUnderTest server(c.script.protocol, 3, "secret");
      ClientUnderTest client(c.script, seed);
      converse(server, client, seed);
      ASSERT_EQ(client.dialogue->state(), State::done)
          << name_of(c.script.protocol) << " seed " << seed;
      EXPECT_TRUE(server.wire.goodbye);
      EXPECT_EQ(client.dialogue->server_name(), "mx1");
      EXPECT_EQ(client.wire.submits, c.accepted);
      EXPECT_EQ(client.wire.fetches, c.fetches);
      ASSERT_EQ(server.sink.ids.size(), c.accepted);
      std::string ids;
      for (const std::string& id : server.sink.ids) ids += id + "\n";
      EXPECT_EQ(client.wire.accepted, ids);
      for (const std::uint64_t size : server.sink.sizes)
        EXPECT_NEAR(static_cast<double>(size), 1500, 3);
    }
  }
}

TEST(Client, empty_mailboxes_are_fine) {
  for (const Protocol protocol : {Protocol::imap, Protocol::pop3}) {
    ServerUnderTest server(protocol, 0);
    ClientUnderTest client(script_for(protocol));
    converse(server, client, 1);
    EXPECT_EQ(client.dialogue->state(), State::done);
    EXPECT_EQ(client.wire.fetches, 0u);
  }
}

TEST(Client, connect_script_says_goodbye_only) {
  for (const Protocol protocol : {Protocol::smtp, Protocol::lmtp, Protocol::imap, Protocol::pop3}) {
    Script script = script_for(protocol);
    script.connect_only = true;
    ServerUnderTest server(protocol);
    ClientUnderTest client(script);
    converse(server, client, 1);
    EXPECT_EQ(client.dialogue->state(), State::done);
    EXPECT_EQ(server.wire.replies, 1u);
  }
}

TEST(Client, failures_by_what_the_server_said) {
  struct Case {
    Protocol protocol;
    std::vector<std::string_view> server;  ///< one answer to each thing the client says
    Failure failure;
    std::string_view code;
  };
  const Case cases[] = {
      {Protocol::smtp, {"421 4.3.2 busy\r\n"}, Failure::greeting_421, "421"},
      {Protocol::smtp, {"450 later\r\n", "221 bye\r\n"}, Failure::greeting_421, "450"},
      {Protocol::smtp, {"554 no\r\n", "221 bye\r\n"}, Failure::greeting_5yz, "554"},
      {Protocol::smtp, {"+OK\r\n"}, Failure::greeting_junk, ""},
      {Protocol::smtp, {"220 a\r\n", "hello\r\n"}, Failure::junk, ""},
      {Protocol::smtp, {"220 a\r\n", "502 no\r\n", "221 bye\r\n"}, Failure::permanent, "502"},
      {Protocol::smtp,
       {"220 a\r\n", "250 a\r\n", "452 full\r\n", "221 bye\r\n"},
       Failure::temporary,
       "452"},
      {Protocol::smtp,
       {"220 a\r\n", "250 a\r\n", "421 going\r\n"},
       Failure::service_closing,
       "421"},
      {Protocol::smtp,
       {"220 a\r\n", "250 a\r\n", "250 a\r\n", "550 who\r\n", "221 bye\r\n"},
       Failure::permanent,
       "550"},
      {Protocol::smtp,
       {"220 a\r\n", "250 a\r\n", "250 a\r\n", "250 a\r\n", "354 go\r\n", "451 disk\r\n",
        "221 bye\r\n"},
       Failure::temporary,
       "451"},
      {Protocol::imap, {"* BYE busy\r\n"}, Failure::greeting_bye, "BYE"},
      {Protocol::imap, {"220 a\r\n"}, Failure::greeting_junk, ""},
      {Protocol::imap,
       {"* OK a\r\n", "a1 NO wrong\r\n", "* BYE x\r\na2 OK x\r\n"},
       Failure::denied,
       "NO"},
      {Protocol::imap, {"* OK a\r\n", "* BYE idle\r\n"}, Failure::service_closing, "BYE"},
      {Protocol::imap, {"* OK a\r\n", "a9 OK who?\r\n"}, Failure::junk, ""},
      {Protocol::pop3, {"-ERR busy\r\n"}, Failure::greeting_bye, "-ERR"},
      {Protocol::pop3, {"220 a\r\n"}, Failure::greeting_junk, ""},
      {Protocol::pop3,
       {"+OK a\r\n", "+OK\r\n", "-ERR wrong\r\n", "+OK bye\r\n"},
       Failure::denied,
       "-ERR"},
      {Protocol::pop3, {"+OK a\r\n", "what\r\n"}, Failure::junk, ""},
  };
  for (const Case& c : cases) {
    ClientUnderTest client(script_for(c.protocol));
    for (const std::string_view answer : c.server) {
      ASSERT_NE(client.dialogue->state(), State::failed) << c.server.back();
      client.say(answer);
    }
    EXPECT_EQ(client.dialogue->state(), State::failed) << c.server.back();
    EXPECT_EQ(name_of(client.dialogue->failure()), name_of(c.failure)) << c.server.back();
    EXPECT_EQ(client.dialogue->code(), c.code) << c.server.back();
    EXPECT_EQ(client.wire.submits, 0u);
  }
}

TEST(Client, refused_step_ends_with_quit) {
  ClientUnderTest client(script_for(Protocol::smtp));
  client.say("220 a\r\n");
  client.say("250 a\r\n");
  EXPECT_EQ(client.say("451 no\r\n"), "QUIT\r\n");
  EXPECT_TRUE(client.dialogue->is_leaving());
}

TEST(Client, waits_for_the_whole_greeting_before_it_speaks) {
  ClientUnderTest client(script_for(Protocol::smtp));
  EXPECT_EQ(client.say("220-mx1 wait\r\n"), "");
  EXPECT_EQ(client.dialogue->state(), State::greeting);
  EXPECT_EQ(client.say("220 mx1 go\r\n"), "EHLO poise-load.test\r\n");
}

TEST(Client, says_each_command_of_its_script) {
  struct Case {
    Protocol protocol;
    std::vector<std::string_view> actions, says;
  };
  for (const Case& c :
       {Case{Protocol::imap,
             {"select", "status", "search", "noop"},
             {"SELECT INBOX", "STATUS INBOX (MESSAGES UNSEEN)", "SEARCH UNSEEN", "NOOP", "LOGOUT"}},
        Case{Protocol::pop3,
             {"stat", "list", "uidl", "noop"},
             {"USER user", "PASS secret", "STAT", "LIST", "UIDL", "NOOP", "QUIT"}},
        Case{Protocol::managesieve, {"noop"}, {"NOOP", "LOGOUT"}}}) {
    Script script = script_for(c.protocol);
    script.actions.clear();
    for (const std::string_view action : c.actions)
      ASSERT_TRUE(add_action(c.protocol, action, script.actions)) << action;
    ClientUnderTest client(script);
    const bool imap = c.protocol == Protocol::imap, pop3 = c.protocol == Protocol::pop3;
    std::string said = client.say(imap ? "* OK a\r\n" : pop3 ? "+OK a\r\n" : "OK\r\n");
    unsigned tag = 0;
    if (imap) said = client.say(fmt::format("a{} OK\r\n", ++tag));  // to LOGIN
    for (const std::string_view line : c.says) {
      EXPECT_EQ(said, imap ? fmt::format("a{} {}\r\n", ++tag, line) : fmt::format("{}\r\n", line));
      const bool listed = line == "LIST" || line == "UIDL";
      said = client.say(imap     ? fmt::format("a{} OK\r\n", tag)
                        : listed ? "+OK\r\n.\r\n"
                        : pop3   ? "+OK\r\n"
                                 : "OK\r\n");
    }
    EXPECT_EQ(client.dialogue->state(), State::done) << name_of(c.protocol);
  }
}

TEST(Client, ids_are_unique_and_name_their_run) {
  MessageMaker messages("abc", 0, "a@b", "c@d");
  std::string header;
  EXPECT_EQ(messages.next(header), "abc-1");
  EXPECT_TRUE(header.starts_with("X-Poise-Load-Id: abc-1\r\nMessage-ID: <abc-1@"));
  EXPECT_TRUE(header.ends_with("\r\n\r\n"));
  EXPECT_EQ(messages.next(header), "abc-2");
}

}  // namespace
}  // namespace poise::loadgen
