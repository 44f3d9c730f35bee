#include "command/probe_report.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "config/json_text.h"
#include "health/foreground.h"

namespace poise {
namespace {

using config::json_text;
using health::Path;
using health::ProbeRequest;
using health::ProbeResult;
using health::TranscriptLine;
using std::chrono::microseconds;

double seconds(microseconds time) {
  return std::chrono::duration<double>(time).count();
}

std::string day(std::int64_t unix_seconds) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC",
                     fmt::gmtime(static_cast<std::time_t>(unix_seconds)));
}

const char* arrow(TranscriptLine::From from) {
  switch (from) {
    case TranscriptLine::From::us:
      return "->";
    case TranscriptLine::From::server:
      return "<-";
    case TranscriptLine::From::note:
      break;
  }
  return "--";
}

const char* word(TranscriptLine::From from) {
  switch (from) {
    case TranscriptLine::From::us:
      return "us";
    case TranscriptLine::From::server:
      return "server";
    case TranscriptLine::From::note:
      break;
  }
  return "note";
}

/// What whoever reads a bad outcome may do next; empty when the words say it all.
std::string_view advice(const ProbeRequest& request, const ProbeResult& result) {
  const bool headed = request.send_proxy != config::SendProxy::off;
  if (result.local_fault) return "This is about this machine, not about the server.";
  switch (result.outcome) {
    case ProbeOutcome::closed:
    case ProbeOutcome::silent:
    case ProbeOutcome::reset:
      if (result.step == "greeting" && !headed)
        return "A server that waits for a PROXY header does this, and so does one that was told to "
               "refuse this address: try --proxy-doctor, and look into its log.";
      break;
    case ProbeOutcome::proxy:
      return "The server takes no PROXY header of this kind on this port, or not from this "
             "address: "
             "--proxy-doctor tells.";
    case ProbeOutcome::refused:
      return "Nothing listens there: is the service running, and on this address?";
    case ProbeOutcome::timeout:
      if (result.step == "connect") return "No answer at all: a firewall, or the host is down.";
      break;
    case ProbeOutcome::tls_failed:
      if (request.tls == config::ProbeTls::implicit)
        return "Does this port begin with TLS? Ports that begin in plaintext want --tls starttls.";
      break;
    case ProbeOutcome::certificate:
      return "The name that is verified is that of --sni; the CAs are those of --ca-file or the "
             "system's.";
    case ProbeOutcome::garbage:
      return "Is it this protocol that is spoken on this port? On TLS ports say --tls implicit.";
    case ProbeOutcome::good:
    case ProbeOutcome::busy:
    case ProbeOutcome::rejected:
    case ProbeOutcome::bye:
    case ProbeOutcome::unreachable:
    case ProbeOutcome::step_failed:
    case ProbeOutcome::dns:
      break;
  }
  return {};
}

std::string json_list(const std::vector<std::string>& texts) {
  std::vector<std::string> quoted;
  for (const std::string& text : texts) quoted.push_back(json_text(text));
  return fmt::format("[{}]", fmt::join(quoted, ", "));
}

std::string json_of(const TlsFacts& facts) {
  return fmt::format(R"({{"protocol": {}, "cipher": {}, "subject": {}, "issuer": {}, "names": {}, )"
                     R"("chain_length": {}, "not_before": {}, "not_after": {}, "fingerprint": {}, )"
                     R"("verified": {}, "verify_result": {}}})",
                     json_text(facts.protocol), json_text(facts.cipher), json_text(facts.subject),
                     json_text(facts.issuer), json_list(facts.names), facts.chain_length,
                     facts.not_before, facts.not_after, json_text(facts.fingerprint),
                     facts.verified, json_text(facts.verify_result));
}

/// The members of an object about one probe, without braces.
std::string json_members(const ProbeRequest& request, const ProbeResult& result) {
  std::vector<std::string> lines;
  for (const TranscriptLine& line : result.transcript)
    lines.push_back(fmt::format(R"({{"at_seconds": {:.6f}, "from": "{}", "text": {}}})",
                                seconds(line.at), word(line.from), json_text(line.text)));
  return fmt::format(
      R"("good": {}, "outcome": "{}", "reply": {}, "step": {}, "duration_seconds": {:.6f}, )"
      R"("connect_seconds": {:.6f}, "greeting_seconds": {:.6f}, "deep": {}, )"
      R"("deep_step_failed": {}, "auth_failed": {}, "local_fault": {}, "rcpt_code": {}, )"
      R"("advice": {}, "tls": {}, "transcript": [{}])",
      result.good(), name_of(result.outcome), json_text(result.words), json_text(result.step),
      seconds(result.total), seconds(result.connect), seconds(result.greeting), result.deep,
      result.deep_step_failed, result.auth_failed, result.local_fault, result.rcpt_code,
      json_text(advice(request, result)), result.tls ? json_of(*result.tls) : "null",
      fmt::join(lines, ", "));
}

std::string milliseconds_text(microseconds time) {
  return time.count() == 0 ? "-" : fmt::format("{:.1f} ms", seconds(time) * 1000);
}

}  // namespace

void run(std::vector<Path>& paths) {
  std::vector<ProbeRequest> requests;
  for (const Path& path : paths) requests.push_back(path.request);
  const std::vector<ProbeResult> results = health::run_probes(requests, requests.size());
  for (std::size_t i = 0; i < paths.size(); ++i) paths[i].result = results[i];
}

RelayVerdict judge_relay(const std::vector<Path>& paths) {
  std::vector<std::string> open, closed;
  for (const Path& path : paths) {
    const int code = path.result.rcpt_code;
    if (code / 100 == 2) open.push_back(path.name);
    if (code / 100 == 4 || code / 100 == 5) closed.push_back(path.name);
  }
  if (!open.empty()) {
    return {false,
            fmt::format("OPEN RELAY through this path: {}. Whoever comes this way can send mail to "
                        "anybody; take this machine's address out of the server's trusted networks "
                        "(Postfix: mynetworks), or send it the client's address (send_proxy).",
                        fmt::join(open, "; "))};
  }
  if (closed.empty()) return {false, "Nothing learnt: the server answered RCPT on no path."};
  return {true, fmt::format("No relay: RCPT elsewhere was refused ({}).", fmt::join(closed, "; "))};
}

std::string text_of(std::string_view address, const ProbeRequest& request,
                    const ProbeResult& result) {
  std::string out = fmt::format("probe of {}, {}\n", address, name_of(request.type));
  for (const TranscriptLine& line : result.transcript)
    out += fmt::format("{:9.4f} {} {}\n", seconds(line.at), arrow(line.from), line.text);
  if (result.tls) {
    const TlsFacts& facts = *result.tls;
    out += fmt::format(
        "tls      {} {}\n         subject {}\n         names {}\n         issuer {}\n"
        "         chain of {}, not after {}\n         sha256 {}\n         verification: {}\n",
        facts.protocol, facts.cipher, facts.subject,
        facts.names.empty() ? "-" : fmt::format("{}", fmt::join(facts.names, " ")), facts.issuer,
        facts.chain_length, day(facts.not_after), facts.fingerprint, facts.verify_result);
  }
  out += fmt::format("time     connect {}, greeting {}, in all {}\n",
                     milliseconds_text(result.connect), milliseconds_text(result.greeting),
                     milliseconds_text(result.total));
  out += fmt::format("outcome  {}{}: {}\n", name_of(result.outcome),
                     result.good() ? "" : fmt::format(" at {}", result.step), result.words);
  if (const std::string_view hint = advice(request, result); !hint.empty())
    out += fmt::format("advice   {}\n", hint);
  return out + (result.good() ? "verdict  good" : "verdict  not good");
}

std::string json_of(std::string_view address, const ProbeRequest& request,
                    const ProbeResult& result) {
  return fmt::format(R"({{"address": {}, "type": "{}", {}}})", json_text(address),
                     name_of(request.type), json_members(request, result));
}

std::string text_of(std::string_view address, const std::vector<Path>& paths,
                    std::string_view sentence) {
  std::string out = fmt::format("{}\n", address);
  for (const Path& path : paths) {
    out += fmt::format("\n{}\n", path.name);
    for (const TranscriptLine& line : path.result.transcript)
      out += fmt::format("{:9.4f} {} {}\n", seconds(line.at), arrow(line.from), line.text);
    out += fmt::format("outcome  {}: {}\n", name_of(path.result.outcome), path.result.words);
  }
  return out + fmt::format("\n{}", sentence);
}

std::string json_of(std::string_view address, const std::vector<Path>& paths, bool good,
                    std::string_view sentence) {
  std::vector<std::string> objects;
  for (const Path& path : paths)
    objects.push_back(fmt::format(R"({{"path": {}, {}}})", json_text(path.name),
                                  json_members(path.request, path.result)));
  return fmt::format(R"({{"address": {}, "good": {}, "sentence": {}, "paths": [{}]}})",
                     json_text(address), good, json_text(sentence), fmt::join(objects, ", "));
}

std::string text_of_many(std::string_view address, const std::vector<ProbeResult>& results) {
  std::map<std::string, unsigned> outcomes;
  for (const ProbeResult& result : results)
    ++outcomes[result.good() ? "good"
                             : fmt::format("{} at {}: {}", name_of(result.outcome), result.step,
                                           result.words)];
  std::string out = fmt::format("{} probes of {}", results.size(), address);
  for (const auto& [outcome, count] : outcomes) out += fmt::format("\n{:8} {}", count, outcome);
  return out;
}

std::string json_of_many(std::string_view address, const std::vector<ProbeResult>& results) {
  std::map<std::string_view, unsigned> outcomes;
  for (const ProbeResult& result : results) ++outcomes[name_of(result.outcome)];
  std::vector<std::string> members;
  for (const auto& [outcome, count] : outcomes)
    members.push_back(fmt::format(R"("{}": {})", outcome, count));
  return fmt::format(R"({{"address": {}, "good": {}, "count": {}, "outcomes": {{{}}}}})",
                     json_text(address), outcomes.size() == 1 && outcomes.begin()->first == "good",
                     results.size(), fmt::join(members, ", "));
}

}  // namespace poise
