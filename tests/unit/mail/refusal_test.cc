// What a client reads when nobody serves it: exact bytes by protocol and reason, other people's
// words made harmless, and the short conversation after a 554.
#include "mail/refusal.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "mail/greeting.h"

namespace poise::mail {
namespace {

using config::DenyReply;
using Reason = RefusalReason;

std::string refusal(const RefusalStyle& style, RefusalReason reason) {
  std::array<char, kRefusalBytesMax> out;
  return {out.data(), write_refusal(out, style, reason)};
}

RefusalStyle style_of(Protocol protocol, DenyReply deny_reply = DenyReply::reply_554) {
  RefusalStyle style;
  style.protocol = protocol;
  style.deny_reply = deny_reply;
  style.hostname = "mail.example.org";
  return style;
}

TEST(Refusal, by_protocol_and_reason) {
  struct Case {
    Protocol protocol;
    Reason reason;
    std::string words;
  };
  const std::string alert("\x15\x03\x01\x00\x02\x02\x50", 7);
  const Case cases[] = {
      {Protocol::smtp, Reason::no_backend,
       "421 4.3.2 mail.example.org Service temporarily unavailable, please try again later\r\n"},
      {Protocol::submission, Reason::all_failed,
       "421 4.3.2 mail.example.org Service temporarily unavailable, please try again later\r\n"},
      {Protocol::lmtp, Reason::queue_full,
       "421 4.3.2 mail.example.org Service temporarily unavailable, please try again later\r\n"},
      {Protocol::smtp, Reason::shutting_down,
       "421 4.3.2 mail.example.org Service is shutting down, please try again later\r\n"},
      {Protocol::smtp, Reason::sessions,
       "421 4.3.2 mail.example.org Too many sessions, please try again later\r\n"},
      {Protocol::smtp, Reason::source_sessions,
       "421 4.7.0 mail.example.org Too many sessions from your address, please try again "
       "later\r\n"},
      {Protocol::smtp, Reason::source_rate,
       "421 4.7.0 mail.example.org Too many new sessions from your address, please try again "
       "later\r\n"},
      {Protocol::smtp, Reason::proxy_header,
       "421 4.3.5 mail.example.org No valid PROXY header from a trusted proxy\r\n"},
      {Protocol::smtp, Reason::denied, "554 5.7.1 mail.example.org Access denied\r\n"},
      {Protocol::smtp, Reason::banned, "554 5.7.1 mail.example.org Access denied\r\n"},
      {Protocol::smtp, Reason::early_talker,
       "554 5.5.1 mail.example.org Protocol error: you spoke before the greeting\r\n"},
      {Protocol::smtp, Reason::bare, ""},
      {Protocol::imap, Reason::queue_timeout,
       "* BYE [UNAVAILABLE] Service temporarily unavailable, please try again later\r\n"},
      {Protocol::imap, Reason::source_sessions,
       "* BYE [UNAVAILABLE] Too many sessions from your address, please try again later\r\n"},
      {Protocol::imap, Reason::denied, "* BYE [NOPERM] Access denied\r\n"},
      {Protocol::imap, Reason::early_talker,
       "* BYE [CLIENTBUG] Protocol error: you spoke before the greeting\r\n"},
      {Protocol::pop3, Reason::resources,
       "-ERR [SYS/TEMP] Service temporarily unavailable, please try again later\r\n"},
      {Protocol::pop3, Reason::sessions,
       "-ERR [SYS/TEMP] Service unavailable: Too many sessions, please try again later\r\n"},
      {Protocol::pop3, Reason::banned, "-ERR [SYS/PERM] Access denied\r\n"},
      {Protocol::managesieve, Reason::no_backend,
       "BYE (TRYLATER) \"Service temporarily unavailable, please try again later\"\r\n"},
      {Protocol::managesieve, Reason::denied, "BYE \"Access denied\"\r\n"},
      {Protocol::smtps, Reason::no_backend, alert},
      {Protocol::imaps, Reason::denied, alert},
      {Protocol::pop3s, Reason::source_rate, alert},
      {Protocol::imaps, Reason::bare, ""},
      {Protocol::tcp, Reason::no_backend, ""},
  };
  for (const Case& c : cases)
    EXPECT_EQ(refusal(style_of(c.protocol), c.reason), c.words)
        << name_of(c.protocol) << " " << name_of(c.reason);
}

TEST(Refusal, denied_as_the_operator_wants_it) {
  EXPECT_EQ(refusal(style_of(Protocol::smtp, DenyReply::reply_421), Reason::denied),
            "421 4.7.1 mail.example.org Access denied, please try again later\r\n");
  EXPECT_EQ(refusal(style_of(Protocol::imap, DenyReply::reply_421), Reason::banned),
            "* BYE [UNAVAILABLE] Access denied, please try again later\r\n");
  for (std::size_t protocol = 0; protocol < kProtocolNames.size(); ++protocol) {
    const RefusalStyle drop = style_of(static_cast<Protocol>(protocol), DenyReply::drop);
    EXPECT_EQ(refusal(drop, Reason::denied), "");
    EXPECT_EQ(refusal(drop, Reason::banned), "");
    EXPECT_EQ(refusal(drop, Reason::no_backend).empty(), drop.protocol == Protocol::tcp);
  }
}

/// Everything that isn't a verdict on the client is temporary, in every protocol: the gate of
/// another balancer, and every client, takes it for "not now".
TEST(Refusal, reads_as_temporary_to_whoever_judges_greetings) {
  for (std::size_t at = 0; at < kRefusalReasonNames.size(); ++at) {
    const auto reason = static_cast<Reason>(at);
    const bool permanent =
        reason == Reason::denied || reason == Reason::banned || reason == Reason::early_talker;
    if (reason == Reason::bare) continue;
    for (const Protocol protocol : {Protocol::smtp, Protocol::submission, Protocol::lmtp}) {
      const std::string words = refusal(style_of(protocol), reason);
      const bool policy = words.starts_with("421 4.7.");
      EXPECT_EQ(policy, reason == Reason::source_sessions || reason == Reason::source_rate);
      EXPECT_EQ(scan_greeting(protocol, words).kind, permanent ? GreetingClass::permanent
                                                     : policy  ? GreetingClass::policy_421
                                                               : GreetingClass::temporary)
          << words;
    }
    for (const Protocol protocol : {Protocol::imap, Protocol::pop3, Protocol::managesieve}) {
      const std::string words = refusal(style_of(protocol), reason);
      EXPECT_EQ(scan_greeting(protocol, words).kind, GreetingClass::bye) << words;
      EXPECT_EQ(words.find("TRYLATER") != std::string::npos ||
                    words.find("[UNAVAILABLE]") != std::string::npos ||
                    words.find("[SYS/TEMP]") != std::string::npos,
                !permanent)
          << words;
    }
  }
}

TEST(Refusal, operators_words_replace_ours_when_it_is_temporary) {
  RefusalStyle style = style_of(Protocol::smtp);
  style.text = "Back at 10:00, see https://status.example.org";
  EXPECT_EQ(refusal(style, Reason::no_backend),
            "421 4.3.2 mail.example.org Back at 10:00, see https://status.example.org\r\n");
  EXPECT_EQ(refusal(style, Reason::denied), "554 5.7.1 mail.example.org Access denied\r\n");
}

TEST(Refusal, words_cannot_break_the_protocol) {
  RefusalStyle style;
  style.text = "one\r\n221 two\t\"q\" \\ caf\xc3\xa9\x7f";
  style.protocol = Protocol::smtp;
  EXPECT_EQ(refusal(style, Reason::no_backend), "421 4.3.2 one  221 two \"q\" \\ caf???\r\n");
  style.protocol = Protocol::managesieve;
  EXPECT_EQ(refusal(style, Reason::no_backend),
            "BYE (TRYLATER) \"one  221 two \\\"q\\\" \\\\ caf???\"\r\n");
  style.protocol = Protocol::smtp;
  style.text = {};
  style.hostname = "a\r\nb";
  EXPECT_TRUE(refusal(style, Reason::no_backend).starts_with("421 4.3.2 a  b Service"));
}

TEST(Refusal, whatever_the_words_it_is_one_bounded_line) {
  const std::string long_words(5000, '"');
  for (std::size_t protocol = 0; protocol < kProtocolNames.size(); ++protocol) {
    RefusalStyle style = style_of(static_cast<Protocol>(protocol));
    if (is_implicit_tls(style.protocol) || style.protocol == Protocol::tcp) continue;
    style.hostname = long_words;
    style.text = long_words;
    for (std::size_t reason = 0; reason < kRefusalReasonNames.size(); ++reason) {
      const std::string words = refusal(style, static_cast<Reason>(reason));
      if (words.empty()) continue;
      EXPECT_LE(words.size(), kRefusalBytesMax);
      EXPECT_EQ(words.find("\r\n"), words.size() - 2) << words;
      // Cut between two quoted characters, never within one.
      if (style.protocol != Protocol::managesieve || !words.starts_with("BYE (")) continue;
      EXPECT_TRUE(words.ends_with("\\\"\"\r\n")) << words;
    }
  }
}

TEST(Refusal, the_longest_words_the_configuration_allows_are_not_cut) {
  RefusalStyle style = style_of(Protocol::smtp);
  const std::string text = std::string(399, 'w') + "!";
  style.text = text;
  EXPECT_TRUE(refusal(style, Reason::no_backend).ends_with(text + "\r\n"));
}

TEST(Refusal, only_an_smtp_554_awaits_quit) {
  for (const Protocol protocol : {Protocol::smtp, Protocol::submission, Protocol::lmtp}) {
    EXPECT_TRUE(refusal_awaits_quit(style_of(protocol), Reason::denied));
    EXPECT_TRUE(refusal_awaits_quit(style_of(protocol), Reason::early_talker));
    EXPECT_FALSE(refusal_awaits_quit(style_of(protocol), Reason::no_backend));
    EXPECT_FALSE(refusal_awaits_quit(style_of(protocol, DenyReply::reply_421), Reason::denied));
    EXPECT_FALSE(refusal_awaits_quit(style_of(protocol, DenyReply::drop), Reason::banned));
  }
  EXPECT_FALSE(refusal_awaits_quit(style_of(Protocol::imap), Reason::denied));
  EXPECT_FALSE(refusal_awaits_quit(style_of(Protocol::smtps), Reason::denied));
}

/// All replies to `stream`, given in pieces of `piece` bytes; how many bytes were looked at.
std::string converse(std::string_view stream, std::size_t piece, bool* finished = nullptr,
                     std::string_view hostname = "mx") {
  DeniedDialogue dialogue;
  std::string said;
  for (std::size_t at = 0; at < stream.size(); at += piece) {
    std::array<char, DeniedDialogue::kReplyBytesMax> out;
    said.append(out.data(), dialogue.take(stream.substr(at, piece), out, hostname));
  }
  if (finished != nullptr) *finished = dialogue.finished();
  return said;
}

TEST(DeniedDialogue, says_503_until_quit_in_any_pieces) {
  const std::string no = "503 5.5.1 Access denied, all that is left is QUIT\r\n";
  const std::string bye = "221 2.0.0 mx Bye\r\n";
  struct Case {
    std::string stream;
    std::string replies;
    bool finished;
  };
  const Case cases[] = {
      {"QUIT\r\n", bye, true},
      {"quit\n", bye, true},
      {"QuIt \t\r\n", bye, true},
      {"EHLO client\r\nQUIT\r\n", no + bye, true},
      {"QUIT\r\nEHLO again\r\nQUIT\r\n", bye, true},
      {"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\nQUIT\r\n", no + no + no + no + bye,
       true},
      {"QUI\r\nQUITE\r\n QUIT\r\nQUIT now\r\nUIT\r\n", no + no + no + no + no, false},
      {"\r\n", no, false},
      {"QUIT", "", false},
      {std::string(100000, 'x') + "\r\nQUIT\r\n", no + bye, true},
      {std::string("Q\0UIT\r\n", 7), no, false},
  };
  for (const Case& c : cases) {
    for (const std::size_t piece : {1u, 2u, 3u, 7u, 1000000u}) {
      bool finished = false;
      EXPECT_EQ(converse(c.stream, piece, &finished), c.replies) << c.stream.substr(0, 80);
      EXPECT_EQ(finished, c.finished);
    }
  }
}

TEST(DeniedDialogue, ends_after_so_many_commands) {
  std::string stream, replies;
  for (int i = 0; i < DeniedDialogue::kCommandsMax; ++i) {
    stream += "NOOP\r\n";
    replies += "503 5.5.1 Access denied, all that is left is QUIT\r\n";
  }
  bool finished = true;
  EXPECT_EQ(converse(stream, 5, &finished), replies);
  EXPECT_FALSE(finished);
  EXPECT_EQ(converse(stream + "QUIT\r\n", 5), replies + "221 2.0.0 mx Bye\r\n");
  for (int i = 0; i < 1000; ++i) stream += "NOOP\r\n";
  EXPECT_EQ(converse(stream, 1 << 20, &finished), replies + "421 4.7.0 mx Too many commands\r\n");
  EXPECT_TRUE(finished);
  const std::string name(5000, 'h');
  EXPECT_LE(converse(stream, 1 << 20, nullptr, name).size(), DeniedDialogue::kReplyBytesMax);
  EXPECT_TRUE(converse(stream, 1 << 20, nullptr, name).ends_with(" Too many commands\r\n"));
}

}  // namespace
}  // namespace poise::mail
