#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "health/dialogue.h"
#include "poise/check.h"

/// A server that says anything: the dialogue ends, its words are printable and bounded, what it
/// says is one bounded command at a time, and the outcome does not depend on how the bytes are cut.
///
/// Input: a byte of options, a byte for the pieces' size, then what the server says; 0xff ends a
/// packet, and where TLS was awaited it stands for the finished handshake.
namespace poise::health {

struct Played {
  Verdict verdict;
  std::string said;
};

inline Played play(const ProbeRequest& request, std::string_view talk, std::size_t piece) {
  auto dialogue = Dialogue::make(request);
  Played played;
  std::size_t lines = 0;
  const auto collect = [&] {
    CHECK(dialogue->output().size() < 4096);
    played.said += dialogue->output();
    dialogue->output().clear();
    lines += dialogue->take_lines().size();
  };
  dialogue->start();
  collect();
  while (!talk.empty() && dialogue->want() != Dialogue::Want::finished) {
    std::string_view packet = talk.substr(0, talk.find('\xff'));
    talk.remove_prefix(std::min(packet.size() + 1, talk.size()));
    if (dialogue->want() == Dialogue::Want::start_tls && packet.empty()) dialogue->tls_started();
    collect();
    while (!packet.empty()) {
      dialogue->receive(packet.substr(0, piece));
      packet.remove_prefix(std::min(piece, packet.size()));
      // Only a dialogue that is not cut short says more than a command between two receives.
      if (piece == 1) CHECK(dialogue->output().size() < 1024);
    }
    collect();
  }
  dialogue->ended(Dialogue::End::closed, "closed by the server");
  collect();
  CHECK(dialogue->want() == Dialogue::Want::finished);
  CHECK(lines <= ProbeResult::kMaxTranscriptLines + 2);
  played.verdict = dialogue->verdict();
  CHECK(played.verdict.words.size() <= ProbeResult::kMaxWordsBytes);
  CHECK(printable(played.verdict.words) == played.verdict.words);
  CHECK(!played.verdict.step.empty());
  return played;
}

inline int fuzz_dialogue(config::ProbeType type, const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const unsigned options = data[0];
  ProbeRequest request;
  request.type = type;
  request.hostname = "probe.test";
  request.keep_transcript = true;
  request.deep = (options & 1) != 0;
  request.tls = (options & 2) != 0 ? config::ProbeTls::starttls : config::ProbeTls::none;
  if ((options & 4) != 0) request.send_proxy = config::SendProxy::v2;
  if ((options & 8) != 0) request.steps.rcpt = "probe@lab.test";
  if ((options & 16) != 0) {
    request.steps.login_user = "user";
    request.steps.login_password = "secret";
    request.steps.allow_plain_login = (options & 32) != 0;
  }
  if (type == config::ProbeType::script) {
    request.tls = config::ProbeTls::none;
    request.script = {{ScriptStep::Kind::expect, "220 "},
                      {ScriptStep::Kind::send, "QUIT\r\n"},
                      {ScriptStep::Kind::expect, "aab"},
                      {ScriptStep::Kind::send, "x"}};
  }
  const std::string_view talk(reinterpret_cast<const char*>(data) + 2, size - 2);
  const Played whole = play(request, talk, talk.size() + 1);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{2} + data[1]}) {
    const Played cut = play(request, talk, piece);
    CHECK(cut.verdict.outcome == whole.verdict.outcome);
    CHECK(cut.verdict.step == whole.verdict.step);
    CHECK(cut.verdict.auth_failed == whole.verdict.auth_failed);
    CHECK(cut.verdict.rcpt_code == whole.verdict.rcpt_code);
    CHECK(cut.said == whole.said);
  }
  return 0;
}

}  // namespace poise::health
