#include "health/dialogue/script.h"

#include <fmt/format.h>

#include "poise/number.h"

namespace poise::health {
namespace {

Result<std::string> unescaped(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '\\') {
      out.push_back(text[at]);
      continue;
    }
    const char kind = ++at < text.size() ? text[at] : '\0';
    if (kind == 'r' || kind == 'n' || kind == 't' || kind == '\\') {
      out.push_back(kind == 'r' ? '\r' : kind == 'n' ? '\n' : kind == 't' ? '\t' : '\\');
      continue;
    }
    std::optional<std::uint8_t> byte;
    if (kind == 'x' && at + 2 < text.size())
      byte = parse_number<std::uint8_t>(text.substr(at + 1, 2), 0xff, 16);
    if (!byte)
      return Error{fmt::format("\"{}\"", text), R"(a backslash must begin \r, \n, \t, \\ or \xNN)"};
    out.push_back(static_cast<char>(*byte));
    at += 2;
  }
  return out;
}

}  // namespace

void ScriptDialogue::consume(std::string_view& bytes) {
  // What was looked through before cannot hold the beginning of more than a match's length.
  const std::string& wanted = request_.script[next_].text;
  const std::size_t overlap = wanted.empty() ? 0 : wanted.size() - 1;
  const std::size_t from = received_.size() > overlap ? received_.size() - overlap : 0;
  const std::size_t had = received_.size();
  received_.append(bytes);
  const std::size_t found = received_.find(wanted, from);
  const std::size_t end = found == std::string::npos ? received_.size() : found + wanted.size();
  if (end > kMaxReplyBytes)
    return garbage(fmt::format("[{} bytes without what is expected]", kMaxReplyBytes));
  bytes.remove_prefix(end - had);
  if (found == std::string::npos) return;
  note_server(std::string_view(received_).substr(0, end));
  verdict_.words = printable(std::string_view(received_).substr(0, end));
  received_.clear();
  ++next_;
  go_on();
}

void ScriptDialogue::go_on() {
  for (; next_ < request_.script.size(); ++next_) {
    const ScriptStep& step = request_.script[next_];
    step_ = step.kind == ScriptStep::Kind::send ? "send" : "expect";
    if (step.kind == ScriptStep::Kind::expect && !step.text.empty()) return;
    if (step.kind == ScriptStep::Kind::send) send_raw(step.text);
  }
  const std::string words = verdict_.words;
  greeting_is_good(words);
}

Result<ScriptStep> parse_script_step(std::string_view text) {
  for (const auto& [prefix, kind] :
       {std::pair{std::string_view("send:"), ScriptStep::Kind::send},
        std::pair{std::string_view("expect:"), ScriptStep::Kind::expect}}) {
    if (!text.starts_with(prefix)) continue;
    Result<std::string> bytes = unescaped(text.substr(prefix.size()));
    if (!bytes) return bytes.error();
    if (bytes->empty())
      return Error{fmt::format("\"{}\"", text), "there is nothing after the colon"};
    return ScriptStep{kind, std::move(*bytes)};
  }
  return Error{fmt::format("\"{}\"", text), "a step is send:TEXT or expect:TEXT"};
}

}  // namespace poise::health
