#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "poise/address.h"
#include "poise/config.h"
#include "poise/health.h"
#include "poise/tls_facts.h"

struct ev_loop;

namespace poise::health {

/// One step of a script: bytes to send, or bytes that must turn up in what came since the last
/// match.
struct ScriptStep {
  enum class Kind : std::uint8_t { send, expect };
  Kind kind = Kind::expect;
  std::string text;

  bool operator==(const ScriptStep&) const = default;
};

/// What a deep probe does after the greeting, apart from EHLO or CAPABILITY.
struct DeepSteps {
  bool ehlo = true;            ///< SMTP: say EHLO even when no other step needs it
  std::string rcpt;            ///< SMTP, LMTP: MAIL FROM:<>, RCPT TO:<this>, RSET; empty: not
  std::string login_user;      ///< empty: no login
  std::string login_password;  ///< read from its file by the caller; never logged, never printed
  bool allow_plain_login = false;  ///< log in without TLS; otherwise the step is refused by us
};

/// One probe. All that it needs stands here; nothing is looked up.
struct ProbeRequest {
  Address address;
  config::ProbeType type = config::ProbeType::tcp;
  /// Obeyed in either tier. Where STARTTLS belongs to the deep tier, say `none` in the cheap one.
  config::ProbeTls tls = config::ProbeTls::none;
  std::string sni;      ///< server name sent and verified; empty: none sent, the address verified
  bool verify = false;  ///< a certificate that does not pass is the outcome `certificate`
  std::string ca_file;  ///< PEM; empty: the system's CAs. Read once, see Prober::forget_ca_files
  config::SendProxy send_proxy = config::SendProxy::off;
  /// Whom the PROXY header names: source and destination. Without it v1 names our own address and
  /// v2 says LOCAL.
  std::optional<std::pair<Address, Address>> proxy_claim;
  bool deep = false;  ///< not: the greeting, then QUIT or LOGOUT
  DeepSteps steps;
  std::string hostname;                      ///< ours, for EHLO
  std::optional<Address> source_address;     ///< connect from here; its port is 0
  std::chrono::milliseconds timeout{10000};  ///< for everything up to the verdict
  std::vector<ScriptStep> script;            ///< type script
  bool keep_transcript = false;
};

/// A line of the conversation. Printable; passwords are masked before they get here.
struct TranscriptLine {
  enum class From : std::uint8_t { us, server, note };
  From from = From::note;
  std::chrono::microseconds at{};  ///< since the start
  std::string text;
};

struct ProbeResult {
  ProbeOutcome outcome = ProbeOutcome::unreachable;
  /// The server's own words, or the system's error, or ours in brackets; printable, one line, at
  /// most kMaxWordsBytes.
  std::string words;
  std::string step;  ///< where it ended: connect, tls, greeting, ehlo, ... ; "done" when good
  /// Until the connection was there; 0: it never was. Without keep_transcript it may contain the
  /// wait for the greeting.
  std::chrono::microseconds connect{};
  std::chrono::microseconds greeting{};  ///< from then to the whole greeting; 0: none came
  std::chrono::microseconds total{};     ///< until the verdict
  std::optional<TlsFacts> tls;           ///< the handshake was finished
  bool deep = false;                     ///< as requested
  bool deep_step_failed = false;         ///< the greeting was good, and what came after it was not
  bool auth_failed = false;  ///< the server does not take the credentials: don't try again
  bool local_fault = false;  ///< we ran out of something: says nothing about the server
  int rcpt_code = 0;         ///< reply to RCPT; 0: none
  std::vector<TranscriptLine> transcript;

  [[nodiscard]] bool good() const { return outcome == ProbeOutcome::good; }

  static constexpr std::size_t kMaxWordsBytes = 256;
  static constexpr std::size_t kMaxTranscriptLines = 200;
};

/// Runs probes on a libev loop, many at once, each a polite client: it waits for the whole
/// greeting, sends one command a reply, takes its leave and closes in order. Belongs to the loop's
/// thread. Costs a socket and about 2 KiB a probe (40 KiB more under TLS) while it runs.
class Prober {
 public:
  using Done = std::function<void(const ProbeResult&)>;

  explicit Prober(struct ev_loop* loop);
  ~Prober();  ///< ends what runs, without calling back
  Prober(const Prober&) = delete;
  Prober& operator=(const Prober&) = delete;

  /// Calls `done` exactly once, from the loop, never from within start(). `done` may start probes
  /// but not destroy the Prober. After it the connection may linger for a second, until the server
  /// has closed too.
  void start(ProbeRequest request, Done done);

  [[nodiscard]] std::size_t running() const;  ///< probes without a verdict

  /// CA files are read at first use and kept; forgotten here, for a reload.
  void forget_ca_files();

  struct Implementation;

 private:
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace poise::health
