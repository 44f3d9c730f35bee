#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "health/probe.h"
#include "mail/line_reader.h"
#include "poise/health.h"
#include "poise/protocol.h"

namespace poise::health {

/// What a dialogue concluded.
struct Verdict {
  ProbeOutcome outcome = ProbeOutcome::good;
  std::string words;           ///< printable, one line, at most ProbeResult::kMaxWordsBytes
  std::string_view step;       ///< a constant; "done" when good
  bool greeting_good = false;  ///< what failed, if anything, came after the greeting
  bool auth_failed = false;    ///< the credentials were refused for good
  int rcpt_code = 0;           ///< reply to RCPT; 0: none
};

/// Printable, on one line, cut to `max_bytes` at a character's end.
std::string printable(std::string_view text, std::size_t max_bytes = ProbeResult::kMaxWordsBytes);

std::string base64(std::string_view bytes);

/// The client's side of one conversation with a mail server: bytes in, bytes out, a verdict. Pure:
/// no socket, no TLS, no clock. The same bytes lead to the same outcome however they are cut.
///
/// One command is under way at a time, and none before the whole greeting. A reply is bounded to
/// kMaxReplyBytes and kMaxReplyLines; what goes beyond is garbage.
class Dialogue {
 public:
  static constexpr std::size_t kMaxLineBytes = 8192, kMaxReplyBytes = 65536, kMaxReplyLines = 512;

  enum class Want : std::uint8_t {
    bytes,      ///< send output(), hand over what comes
    start_tls,  ///< send output() (there is none), start TLS, then tls_started()
    finished,   ///< send output() (a goodbye, perhaps), report, close in order
  };

  /// How a connection ends where the dialogue does not want it to.
  enum class End : std::uint8_t { closed, reset, timed_out, tls_failed };

  /// The dialogue for request.type, which is not `off`. `request` must outlive it.
  static std::unique_ptr<Dialogue> make(const ProbeRequest& request);

  explicit Dialogue(const ProbeRequest& request) : request_(request) {}
  virtual ~Dialogue() = default;
  Dialogue(const Dialogue&) = delete;
  Dialogue& operator=(const Dialogue&) = delete;

  /// The connection is there, and under implicit TLS the handshake is done.
  void start();
  void receive(std::string_view bytes);
  void tls_started();
  /// The certificate does not pass: no step but the goodbye is taken any more. Before start() or
  /// tls_started().
  void distrust(std::string_view why);
  /// `why`: ours or the system's words for it, unless the server's own say more.
  void ended(End how, std::string_view why);
  /// Not a byte came after a PROXY header before the dialogue could begin.
  void header_refused(std::string_view why);

  [[nodiscard]] Want want() const { return want_; }
  /// The verdict is good, only the answer to the goodbye is awaited: not worth a long wait.
  [[nodiscard]] bool leaving() const { return leaving_; }
  /// And the answer has come: the server says no more.
  [[nodiscard]] bool goodbye_answered() const { return goodbye_answered_; }
  [[nodiscard]] bool greeted() const { return verdict_.greeting_good; }
  /// Bytes for the server; the caller takes them out.
  std::string& output() { return output_; }
  /// Complete once want() is `finished`.
  [[nodiscard]] const Verdict& verdict() const { return verdict_; }
  /// What was said since the last call, without times; empty unless request.keep_transcript.
  std::vector<TranscriptLine> take_lines();

 protected:
  virtual void on_start() {}
  /// Takes all bytes up to where want() changes. The default cuts lines for on_line().
  virtual void consume(std::string_view& bytes);
  virtual void on_line(std::string_view line) = 0;
  /// What has come and has not been answered.
  [[nodiscard]] virtual std::string_view unfinished() const { return reader_.partial(); }
  /// Next command after a good greeting.
  virtual void after_greeting() = 0;
  virtual void on_tls() {}
  /// "QUIT" or what it is called; empty: none.
  [[nodiscard]] virtual std::string_view goodbye() const = 0;
  /// Whose greetings are expected; tcp: none.
  [[nodiscard]] virtual Protocol protocol() const = 0;

  /// Sends a command, without its line end. `shown`, if given, stands in the transcript instead of
  /// it.
  void send(std::string_view step, std::string_view command, std::string_view shown = {});
  /// Sends bytes as they are.
  void send_raw(std::string_view bytes);
  /// `words`: the greeting's.
  void greeting_is_good(std::string_view words);
  void start_tls() {
    want_ = Want::start_tls;
    reply_lines_ = 0;
  }
  /// All asked for is done: the goodbye, then good.
  void leave();
  /// The goodbye was answered. `positive`: in the words of one who takes his leave.
  void left(bool positive, std::string_view words);
  /// The end, with a goodbye when the protocol is still intact. `words` are the server's.
  void fail(ProbeOutcome outcome, std::string_view words, bool say_goodbye = true);
  void garbage(std::string_view words) { fail(ProbeOutcome::garbage, words, false); }
  /// A bad answer to the first command after a PROXY header is an answer to the header.
  [[nodiscard]] bool answers_header() const { return header_unanswered_; }
  void header_was_taken() { header_unanswered_ = false; }
  void note_server(std::string_view line);
  [[nodiscard]] bool tls_active() const { return tls_active_; }
  /// False when the login may not go out now, and then the verdict says why.
  bool may_log_in();

  const ProbeRequest& request_;
  Verdict verdict_;
  std::string_view step_ = "greeting";

 private:
  void note(TranscriptLine::From from, std::string_view text);
  bool within_bounds(std::size_t line_bytes);
  void finish();

  mail::LineReader reader_{kMaxLineBytes};
  std::string output_;
  std::string distrusted_;
  std::string last_line_;  ///< the server's, of the reply under way
  std::vector<TranscriptLine> lines_;
  std::size_t lines_noted_ = 0;
  std::size_t reply_bytes_ = 0;
  std::size_t reply_lines_ = 0;
  Want want_ = Want::bytes;
  bool tls_active_ = false;
  bool leaving_ = false;
  bool goodbye_answered_ = false;
  bool header_unanswered_ = false;
  bool heard_ = false;  ///< a first line has come
};

}  // namespace poise::health
