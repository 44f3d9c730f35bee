// Dialogues of both sides under nonsense made of their own words: they take every byte or close,
// and hold no more than they may.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "conversation.h"
#include "loadgen/client/dialogue.h"

namespace poise::loadgen {
namespace {

const std::vector<std::string>& words() {
  static const std::vector<std::string> kWords{"EHLO c",
                                               "LHLO c",
                                               "MAIL FROM:<a@b>",
                                               "RCPT TO:<c@d>",
                                               "RCPT TO:<full@d>",
                                               "DATA",
                                               ".",
                                               "..",
                                               "QUIT",
                                               "RSET",
                                               "AUTH PLAIN",
                                               "AUTH LOGIN",
                                               "AHUAc2VjcmV0",
                                               "*",
                                               "=",
                                               "USER u",
                                               "PASS p",
                                               "STAT",
                                               "LIST",
                                               "RETR 1",
                                               "TOP 1 2",
                                               "DELE 2",
                                               "a LOGIN u p",
                                               "b SELECT INBOX",
                                               "c FETCH 1:* (FLAGS BODY[HEADER.FIELDS (TO)]<0.9>)",
                                               "d APPEND INBOX {3}",
                                               "e APPEND INBOX {3+}",
                                               "f IDLE",
                                               "DONE",
                                               "g UID SEARCH OR (1:2) NOT SEEN",
                                               "h STORE 1 +FLAGS (\\Deleted)",
                                               "i EXPUNGE",
                                               "j LOGIN {2}",
                                               "k LOGOUT",
                                               "220 mx1",
                                               "220-mx1",
                                               "250-a",
                                               "250 ok",
                                               "354 go",
                                               "421 x",
                                               "550 no",
                                               "221 bye",
                                               "* OK mx1",
                                               "* 3 EXISTS",
                                               "a1 OK",
                                               "a2 OK",
                                               "a3 OK",
                                               "* 1 FETCH (BODY[] {5}",
                                               "* BYE x",
                                               "+OK 3 9",
                                               "-ERR x",
                                               "+ go",
                                               "\r",
                                               "\n",
                                               "\r\n",
                                               "\r\n",
                                               "\r\n",
                                               "\r\n",
                                               " ",
                                               "(",
                                               ")",
                                               "\"",
                                               "\\",
                                               "{99999999999999999999}",
                                               "{18446744073709551615}",
                                               "\xff\xfe",
                                               std::string(3, '\0'),
                                               std::string(600, 'x'),
                                               "[",
                                               "]",
                                               "<",
                                               ">",
                                               "1:*,"};
  return kWords;
}

std::string nonsense(std::mt19937& random) {
  std::string text;
  for (std::size_t at = random() % 60; at > 0; --at) {
    text += words()[random() % words().size()];
    if (random() % 3 != 0) text += "\r\n";
  }
  return text;
}

TEST(Nonsense, servers_take_it_or_close) {
  for (const Protocol protocol : {Protocol::smtp, Protocol::submission, Protocol::lmtp,
                                  Protocol::imap, Protocol::pop3, Protocol::managesieve}) {
    std::mt19937 random(1);
    for (int round = 0; round < 1000; ++round) {
      ServerUnderTest server(protocol);
      server.greet();
      for (int chunk = 0; chunk < 4 && !server.wire.close; ++chunk) {
        const std::string text = nonsense(random);
        std::string_view bytes = text;
        std::size_t left = bytes.size() + 1;
        while (!bytes.empty() && !server.wire.close) {
          ASSERT_LT(bytes.size(), left) << "no progress";
          left = bytes.size();
          server.dialogue->receive(bytes, server.wire);
          ASSERT_LT(server.wire.out.owned_size(), 200'000u);
          server.take();
        }
      }
      for (const std::string& id : server.sink.ids)
        ASSERT_EQ(id.find_first_of("\r\n"), std::string::npos);
    }
  }
}

TEST(Nonsense, clients_fail_or_wait) {
  for (const Protocol protocol : {Protocol::smtp, Protocol::submission, Protocol::lmtp,
                                  Protocol::imap, Protocol::pop3, Protocol::managesieve}) {
    std::mt19937 random(2);
    MessageMaker messages("run", 100, "a@b", "c@d");
    for (int round = 0; round < 1000; ++round) {
      Script script;
      script.protocol = protocol;
      script.pipelining = round % 2 == 0;
      const auto dialogue = make_client_dialogue(script, messages, 0);
      ClientWire wire;
      const std::string text = (round % 4 == 0   ? "220 mx1\r\n"
                                : round % 4 == 1 ? "* OK mx1\r\n"
                                : round % 4 == 2 ? "OK \"mx1\"\r\n"
                                                 : "+OK mx1\r\n") +
                               nonsense(random);
      for (std::size_t at = 0; at < text.size(); at += 50)
        dialogue->receive(std::string_view(text).substr(at, 50), wire);
      if (dialogue->state() == ClientDialogue::State::failed) {
        ASSERT_NE(dialogue->failure(), Failure::none);
      }
      ASSERT_LE(wire.out.owned_size(), 100'000u);
    }
  }
}

}  // namespace
}  // namespace poise::loadgen
