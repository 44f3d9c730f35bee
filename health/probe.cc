#include "health/probe.h"

#include <ev.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <list>
#include <map>

#include "health/dialogue.h"
#include "mail/proxy_header.h"
#include "net/fd.h"
#include "net/socket.h"
#include "poise/check.h"
#include "tls/context.h"
#include "tls/engine.h"

namespace poise::health {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kGoodbyeWait{2000};  ///< for the answer to QUIT
constexpr milliseconds kLinger{1000};       ///< for the server to close
/// What a server may say after the verdict before it is closed in its face.
constexpr std::size_t kLingerBytes = std::size_t{1024} * 1024;

/// An error of ours, not of the way to the server or of the server.
bool is_local(int error) {
  switch (error) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EADDRNOTAVAIL:
    case EADDRINUSE:
    case EAGAIN:
    case EACCES:
    case EPERM:
    case EAFNOSUPPORT:
    case EINVAL:
      return true;
    default:
      return false;
  }
}

ProbeOutcome outcome_of_connect(int error) {
  switch (error) {
    case ECONNREFUSED:
      return ProbeOutcome::refused;
    case ETIMEDOUT:
      return ProbeOutcome::timeout;
    case ECONNRESET:
      return ProbeOutcome::reset;
    default:
      return ProbeOutcome::unreachable;
  }
}

std::string in_seconds(milliseconds time) {
  return fmt::format("{:g} s", std::chrono::duration<double>(time).count());
}

std::string distrust_words(const TlsFacts& facts) {
  if (facts.subject.empty() && facts.names.empty()) return fmt::format("[{}]", facts.verify_result);
  return fmt::format(
      "[{}: {}, for {}, not after {:%Y-%m-%d}]", facts.verify_result, facts.subject,
      facts.names.empty() ? "no name" : fmt::format("{}", fmt::join(facts.names, " ")),
      fmt::gmtime(static_cast<std::time_t>(facts.not_after)));
}

class Conversation;

}  // namespace

struct Prober::Implementation {
  struct ev_loop* loop;
  std::list<std::unique_ptr<Conversation>> conversations;
  std::map<std::string, std::shared_ptr<const tls::Context>> contexts;  ///< by CA file
  std::size_t running = 0;
  std::array<char, 16384> buffer;  ///< what was received, for as long as it is looked at

  Result<std::shared_ptr<const tls::Context>> context(const std::string& ca_file) {
    if (const auto found = contexts.find(ca_file); found != contexts.end()) return found->second;
    auto made = tls::Context::client(ca_file);
    if (made) contexts.emplace(ca_file, *made);
    return made;
  }
};

namespace {

/// One probe from connect to close.
class Conversation {
 public:
  using Owner = Prober::Implementation;
  using Position = std::list<std::unique_ptr<Conversation>>::iterator;

  Conversation(Owner& owner, ProbeRequest request, Prober::Done done)
      : owner_(owner),
        request_(std::move(request)),
        done_(std::move(done)),
        started_(Clock::now()) {
    ev_init(&io_, &Conversation::on_ready);
    ev_init(&timer_, &Conversation::on_timer);
    io_.data = timer_.data = this;
    result_.deep = request_.deep;
  }
  ~Conversation() {
    ev_io_stop(owner_.loop, &io_);
    ev_timer_stop(owner_.loop, &timer_);
    if (phase_ != Phase::lingering) --owner_.running;
  }
  Conversation(const Conversation&) = delete;
  Conversation& operator=(const Conversation&) = delete;

  void start(Position position) {
    position_ = position;
    ++owner_.running;
    ev_now_update(owner_.loop);
    arm(request_.timeout);
    connect();
  }

 private:
  enum class Phase : std::uint8_t {
    connecting,
    handshaking,  ///< implicit TLS, or STARTTLS after the go-ahead
    talking,
    failed,     ///< before it began; the verdict is due at the next turn of the loop
    lingering,  ///< the verdict is out; until the server has closed
  };

  static void on_ready(struct ev_loop*, ev_io* io, int) {
    static_cast<Conversation*>(io->data)->ready();
  }
  static void on_timer(struct ev_loop*, ev_timer* timer, int) {
    static_cast<Conversation*>(timer->data)->timed_out();
  }

  void arm(milliseconds time) {
    ev_timer_stop(owner_.loop, &timer_);
    ev_timer_set(&timer_, std::chrono::duration<double>(time).count(), 0.);
    ev_timer_start(owner_.loop, &timer_);
  }

  void watch(int events) {
    // libev forgets EV__IOFDSET once started: what is the same goes on without a system call.
    if (!ev_is_active(&io_)) {
      ev_io_set(&io_, fd_.get(), events);
    } else {
      if ((io_.events & ~EV__IOFDSET) == events) return;
      ev_io_stop(owner_.loop, &io_);
      ev_io_modify(&io_, events);
    }
    ev_io_start(owner_.loop, &io_);
  }

  [[nodiscard]] microseconds elapsed() const {
    return std::chrono::duration_cast<microseconds>(Clock::now() - started_);
  }

  template <class... Arguments>
  void note(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    if (request_.keep_transcript)
      result_.transcript.push_back({TranscriptLine::From::note, elapsed(),
                                    fmt::format(format, std::forward<Arguments>(arguments)...)});
  }

  // Beginning

  /// The verdict without a conversation, at the next turn of the loop.
  void fail_early(ProbeOutcome outcome, std::string words, std::string_view step, bool local) {
    phase_ = Phase::failed;
    result_.outcome = outcome;
    result_.words = printable(words);
    result_.step = step;
    result_.local_fault = local;
    ev_io_stop(owner_.loop, &io_);
    arm(milliseconds(0));
  }

  void fail_connect(const char* call, int error) {
    fail_early(outcome_of_connect(error), fmt::format("[{}: {}]", call, std::strerror(error)),
               "connect", is_local(error));
  }

  void connect() {
    sockaddr_storage storage;
    const int family = request_.address.is_v4() ? AF_INET : AF_INET6;
    fd_ = net::Fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd_) return fail_connect("socket", errno);
    if (request_.source_address) {
      // The port is chosen at connect(), so that one can serve towards several servers.
      const int on = 1;
      ::setsockopt(fd_.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
      const socklen_t length = request_.source_address->to_sockaddr(storage);
      if (::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0) {
        const int error = errno;
        return fail_early(ProbeOutcome::unreachable,
                          fmt::format("[source address {}: {}]", request_.source_address->ip_text(),
                                      std::strerror(error)),
                          "connect", true);
      }
    }
    const socklen_t length = request_.address.to_sockaddr(storage);
    if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0 &&
        errno != EINPROGRESS)
      return fail_connect("connect", errno);
    watch(greeting_is_news() ? EV_READ : EV_WRITE);
  }

  /// The server speaks first and nobody will ask how long the connect took: it need not be waited
  /// for apart, which saves scheduled probes an event in four.
  [[nodiscard]] bool greeting_is_news() const {
    return !request_.keep_transcript && request_.send_proxy == config::SendProxy::off &&
           request_.tls != config::ProbeTls::implicit && request_.type != config::ProbeType::tcp &&
           request_.type != config::ProbeType::script;
  }

  /// False: this object may be gone.
  bool connected() {
    int error = 0;
    socklen_t length = sizeof error;
    // Who waits for the greeting is told by reading it.
    if (!greeting_is_news()) ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    // It was there and is gone again: what the server said before it reset can still be read
    // (postscreen says 521 and resets at once).
    reset_ = error == ECONNRESET || error == EPIPE;
    if (error != 0 && !reset_) {
      fail_connect("connect", error);
      return false;
    }
    result_.connect = elapsed();
    if (request_.keep_transcript)
      note("connected to {} from {}", request_.address.text(),
           net::local_address(fd_.get()).text());
    dialogue_ = Dialogue::make(request_);
    put_proxy_header();
    if (request_.tls == config::ProbeTls::implicit) {
      if (!begin_tls()) return false;
    } else {
      phase_ = Phase::talking;
      dialogue_->start();
    }
    return advance();
  }

  void put_proxy_header() {
    if (request_.send_proxy == config::SendProxy::off) return;
    std::array<char, mail::kProxyBuiltBytesMax> header;
    const Address self = net::local_address(fd_.get());
    const auto [source, destination] =
        request_.proxy_claim.value_or(std::pair(self, request_.address));
    std::size_t size = 0;
    if (request_.send_proxy == config::SendProxy::v1) {
      size = mail::build_proxy_v1(header, source, destination);
      note("PROXY v1 header: {} to {}", source.text(), destination.text());
    } else if (request_.proxy_claim) {
      size = mail::build_proxy_v2(header, source, destination, {});
      note("PROXY v2 header: {} to {}", source.text(), destination.text());
    } else {
      size = mail::build_proxy_v2_local(header);
      note("PROXY v2 header: LOCAL");
    }
    out_.append(header.data(), size);
  }

  bool begin_tls() {
    auto context = owner_.context(request_.ca_file);
    if (!context) {
      fail_early(ProbeOutcome::certificate, fmt::format("[{}]", context.error().text()), "tls",
                 true);
      return false;
    }
    phase_ = Phase::handshaking;
    heard_ = false;
    tls_ = std::make_unique<tls::Engine>(*context, request_.sni, request_.address);
    tls_->start();
    return true;
  }

  // Events

  void ready() {
    if (phase_ == Phase::connecting && (!connected() || !greeting_is_news())) return;
    if (!flush()) return lost(errno);
    // A few buffers at most, so that no server that talks and talks keeps the others waiting.
    for (int turn = 0; turn < 4; ++turn) {
      const ssize_t got = ::recv(fd_.get(), owner_.buffer.data(), owner_.buffer.size(), 0);
      if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) break;
      if (got <= 0) return lost(got == 0 ? 0 : errno);
      const std::string_view bytes(owner_.buffer.data(), static_cast<std::size_t>(got));
      if (phase_ == Phase::lingering) {
        lingered_bytes_ += bytes.size();
        if (lingered_bytes_ > kLingerBytes) return end();
        continue;
      }
      heard_ = true;
      if (tls_)
        tls_->receive(bytes);
      else
        dialogue_->receive(bytes);
      if (!advance()) return;
      if (bytes.size() < owner_.buffer.size()) break;
    }
    if (fd_) watch(out_.empty() ? EV_READ : EV_READ | EV_WRITE);
  }

  /// The connection is over: the server's FIN (0) or an error.
  void lost(int error) {
    at_end_ = true;
    if (phase_ == Phase::lingering) return end();
    const bool of_connect = error != 0 && error != ECONNRESET && error != EPIPE;
    if (of_connect && phase_ == Phase::talking && !heard_ && greeting_is_news())
      return fail_connect("connect", error);
    const bool closed = error == 0 && !reset_;
    const char* const how = closed ? "closed by the server" : "reset by the server";
    if (phase_ == Phase::handshaking) {
      // Not a byte after the header: it is the header that was not liked.
      if (!heard_ && !dialogue_->greeted() && request_.send_proxy != config::SendProxy::off)
        dialogue_->header_refused(how);
      else
        dialogue_->ended(Dialogue::End::tls_failed,
                         fmt::format("{} during the TLS handshake", how));
    } else {
      dialogue_->ended(closed ? Dialogue::End::closed : Dialogue::End::reset, how);
    }
    advance();
  }

  void timed_out() {
    switch (phase_) {
      case Phase::failed:
        return report();
      case Phase::lingering:
        return end();
      case Phase::connecting:
        if (net::peer_address(fd_.get())) {  // it was its greeting that did not come
          phase_ = Phase::talking;
          dialogue_ = Dialogue::make(request_);
          dialogue_->start();
          return timed_out();
        }
        fail_early(ProbeOutcome::timeout,
                   fmt::format("[no connection in {}]", in_seconds(request_.timeout)), "connect",
                   false);
        return report();
      case Phase::handshaking:
        if (heard_)
          dialogue_->ended(
              Dialogue::End::tls_failed,
              fmt::format("the TLS handshake was not done in {}", in_seconds(request_.timeout)));
        else
          dialogue_->ended(
              Dialogue::End::timed_out,
              fmt::format("no answer to the TLS handshake in {}", in_seconds(request_.timeout)));
        break;
      case Phase::talking:
        dialogue_->ended(
            Dialogue::End::timed_out,
            fmt::format("nothing {}in {}", heard_ ? "more " : "", in_seconds(request_.timeout)));
        break;
    }
    advance();
  }

  /// Moves bytes between socket, TLS and dialogue until nothing more can be done without the
  /// server. False: this object may be gone.
  bool advance() {
    while (true) {
      if (tls_) take_from_tls();
      collect_transcript();
      if (result_.greeting.count() == 0 && dialogue_->greeted())
        result_.greeting = elapsed() - result_.connect;
      std::string& said = dialogue_->output();
      if (!said.empty()) {
        if (tls_ && tls_->state() != tls::Engine::State::handshaking)
          tls_->send(said);
        else if (!tls_)
          out_.append(said);
        said.clear();
      }
      if (dialogue_->want() != Dialogue::Want::start_tls || tls_) break;
      if (!begin_tls()) return false;
    }
    if (tls_) tls_->take_ciphertext(out_);
    if (dialogue_->want() == Dialogue::Want::finished) {
      report();
      return false;
    }
    if (!flush()) {
      lost(errno);
      return false;
    }
    if (dialogue_->leaving() && !goodbye_timed_) {
      goodbye_timed_ = true;
      const auto left = std::chrono::duration_cast<milliseconds>(request_.timeout - elapsed());
      arm(std::clamp(left, milliseconds(0), kGoodbyeWait));
    }
    watch(out_.empty() ? EV_READ : EV_READ | EV_WRITE);
    return true;
  }

  void take_from_tls() {
    if (phase_ == Phase::handshaking) {
      if (tls_->state() == tls::Engine::State::handshaking) return;
      if (tls_->state() == tls::Engine::State::failed)
        return dialogue_->ended(Dialogue::End::tls_failed, tls_->error());
      shake_hands();
    }
    plaintext_.clear();
    tls_->take_plaintext(plaintext_);
    dialogue_->receive(plaintext_);
    if (tls_->state() == tls::Engine::State::failed)
      dialogue_->ended(Dialogue::End::tls_failed, tls_->error());
    else if (tls_->state() == tls::Engine::State::closed)
      dialogue_->ended(Dialogue::End::closed, "closed by the server");
  }

  void shake_hands() {
    phase_ = Phase::talking;
    result_.tls = tls_->facts();
    const TlsFacts& facts = *result_.tls;
    note("{} {}, {}", facts.protocol, facts.cipher,
         facts.verified ? "certificate verified"
                        : "certificate not verified: " + facts.verify_result);
    if (request_.verify && !facts.verified) dialogue_->distrust(distrust_words(facts));
    if (dialogue_->want() == Dialogue::Want::start_tls)
      dialogue_->tls_started();
    else
      dialogue_->start();
  }

  void collect_transcript() {
    if (!request_.keep_transcript) return;
    for (TranscriptLine& line : dialogue_->take_lines()) {
      line.at = elapsed();
      result_.transcript.push_back(std::move(line));
    }
  }

  /// False when the connection is over; errno says why.
  bool flush() {
    while (!out_.empty()) {
      const ssize_t sent = ::send(fd_.get(), out_.data(), out_.size(), MSG_NOSIGNAL);
      if (sent < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return true;
        // What the server said before it closed is still to be read, and says more.
        out_.clear();
        if (phase_ == Phase::lingering || (errno != EPIPE && errno != ECONNRESET)) return false;
        reset_ = true;
        return true;
      }
      out_.erase(0, static_cast<std::size_t>(sent));
    }
    if (phase_ == Phase::lingering && !half_closed_) {
      half_closed_ = true;
      ::shutdown(fd_.get(), SHUT_WR);
    }
    return true;
  }

  // The end

  void report() {
    if (phase_ != Phase::failed) {
      const Verdict& verdict = dialogue_->verdict();
      result_.outcome = verdict.outcome;
      result_.words = verdict.words;
      result_.step = verdict.step;
      result_.auth_failed = verdict.auth_failed;
      result_.rcpt_code = verdict.rcpt_code;
      result_.deep_step_failed = verdict.greeting_good && verdict.outcome != ProbeOutcome::good;
    }
    result_.total = elapsed();
    // After the answer to the goodbye nothing comes but, under TLS, the server's own goodbye.
    const bool said_all = !tls_ && dialogue_ && dialogue_->goodbye_answered();
    const bool over = phase_ == Phase::failed || phase_ == Phase::connecting || at_end_ || said_all;
    phase_ = Phase::lingering;
    --owner_.running;
    Prober::Done done = std::move(done_);
    done(result_);
    if (over) return end();
    if (tls_) {
      tls_->close();
      tls_->take_ciphertext(out_);
    }
    if (!flush()) return end();
    arm(kLinger);
    watch(out_.empty() ? EV_READ : EV_READ | EV_WRITE);
  }

  void end() {
    owner_.conversations.erase(position_);  // and with it this object
  }

  Owner& owner_;
  const ProbeRequest request_;
  Prober::Done done_;
  const Clock::time_point started_;
  Position position_;
  ev_io io_;
  ev_timer timer_;
  net::Fd fd_;
  std::unique_ptr<Dialogue> dialogue_;
  std::unique_ptr<tls::Engine> tls_;
  ProbeResult result_;
  std::string out_;        ///< for the socket
  std::string plaintext_;  ///< scratch
  std::size_t lingered_bytes_ = 0;
  Phase phase_ = Phase::connecting;
  bool at_end_ = false;
  bool reset_ = false;  ///< the kernel has reported the reset, and will only say EOF
  bool half_closed_ = false;
  bool goodbye_timed_ = false;
  bool heard_ = false;  ///< a byte has come, of the handshake when there is one
};

}  // namespace

Prober::Prober(struct ev_loop* loop) : implementation_(std::make_unique<Implementation>()) {
  implementation_->loop = loop;
}

Prober::~Prober() {
  implementation_->conversations.clear();
}

void Prober::start(ProbeRequest request, Done done) {
  CHECK(request.type != config::ProbeType::off && request.address);
  auto& conversations = implementation_->conversations;
  conversations.push_front(
      std::make_unique<Conversation>(*implementation_, std::move(request), std::move(done)));
  conversations.front()->start(conversations.begin());
}

std::size_t Prober::running() const {
  return implementation_->running;
}

void Prober::forget_ca_files() {
  implementation_->contexts.clear();
}

}  // namespace poise::health
