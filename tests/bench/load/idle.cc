#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "shapes.h"
#include "smtp_server.h"

namespace bench {
namespace {

/// The servers in a child of their own: with both ends in one process the fd limit would halve the
/// number of sessions. Ends with the parent.
class ServerProcess {
 public:
  explicit ServerProcess(const std::vector<sockaddr_in>& addresses) {
    int ready[2];
    if (pipe(ready) < 0) fail_errno("pipe");
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ < 0) fail_errno("fork");
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);
      Loop loop;
      SmtpServers servers(loop, addresses);
      if (write(ready[1], "r", 1) != 1) _exit(1);
      for (;;) loop.turn(-1);
    }
    close(ready[1]);
    char byte;
    if (read(ready[0], &byte, 1) != 1) fail("the server process didn't start");
    close(ready[0]);
  }
  ~ServerProcess() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

 private:
  pid_t pid_ = -1;
};

/// Sessions that greet and then say nothing.
class Idlers {
 public:
  Idlers(Loop& loop, const Options& options) : loop_(loop), options_(options) {}

  /// Opens sessions up to `count`, a few at a time, and waits until each has had its EHLO answered.
  void open(std::size_t count) {
    constexpr std::size_t kOpeningMax = 32;
    while (clients_.size() < count) {
      const std::size_t batch = std::min(count - clients_.size(), kOpeningMax);
      for (std::size_t i = 0; i < batch; ++i) {
        clients_.push_back(std::make_unique<Client>(*this));
        clients_.back()->open(options_.targets[clients_.size() % options_.targets.size()]);
      }
      const std::uint64_t before = settled_;
      loop_.run_until([this, before, batch] { return settled_ - before >= batch; }, options_.limit,
                      "sessions don't get their greeting");
    }
  }

  /// One command on every `step`th session, all at once.
  void ping_every(std::size_t step) {
    std::uint64_t asked = 0;
    const std::uint64_t before = settled_;
    latencies_.clear();
    for (std::size_t i = 0; i < clients_.size(); i += step) asked += clients_[i]->noop() ? 1u : 0u;
    loop_.run_until([this, before, asked] { return settled_ - before >= asked; }, options_.limit,
                    "idle sessions don't answer");
  }

  void close_all() {
    clients_.clear();
    loop_.settle(std::chrono::milliseconds(300));
  }

  [[nodiscard]] std::uint64_t errors() const { return errors_; }
  [[nodiscard]] const std::string& first_error() const { return first_error_; }
  std::vector<float>& latencies() { return latencies_; }

 private:
  class Client final : public Source {
   public:
    explicit Client(Idlers& all) : all_(all) {}
    ~Client() {
      if (fd_ >= 0) close(fd_);
    }

    void open(const sockaddr_in& target) {
      fd_ = connect_to(target);
      if (fd_ < 0) fail_errno("connect");
      await(script::kGreeting);
      all_.loop_.add(fd_, EPOLLIN, this);
    }

    /// False when the session has died.
    bool noop() {
      if (fd_ < 0) return false;
      say(script::kNoop, script::kOk);
      return true;
    }

    void on_event(std::uint32_t) override {
      std::array<char, 512> buffer;
      const ssize_t got = recv(fd_, buffer.data(), buffer.size(), 0);
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) return die(got == 0 ? "closed while idle" : std::strerror(errno));
      if (static_cast<std::size_t>(got) > left_) return die("more than the script said");
      left_ -= static_cast<std::size_t>(got);
      if (left_ > 0) return;
      if (awaited_ == script::kGreeting) return say(script::kEhlo, script::kEhloReply);
      all_.latencies_.push_back(
          std::chrono::duration<float, std::micro>(Clock::now() - sent_).count());
      ++all_.settled_;
    }

   private:
    void await(std::string_view reply) {
      awaited_ = reply;
      left_ = reply.size();
    }
    void say(std::string_view command, std::string_view reply) {
      await(reply);
      sent_ = Clock::now();
      if (send(fd_, command.data(), command.size(), MSG_NOSIGNAL) !=
          static_cast<ssize_t>(command.size()))
        die("send failed");
    }
    void die(const char* error) {
      close(fd_);
      fd_ = -1;
      if (all_.first_error_.empty()) all_.first_error_ = error;
      ++all_.errors_;
      if (left_ > 0) ++all_.settled_;  // nobody need wait for it
    }

    Idlers& all_;
    int fd_ = -1;
    std::size_t left_ = 0;
    std::string_view awaited_;
    Clock::time_point sent_;
  };

  Loop& loop_;
  const Options& options_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::uint64_t settled_ = 0;
  std::uint64_t errors_ = 0;
  std::string first_error_;
  std::vector<float> latencies_;
};

}  // namespace

Result run_idle(Loop& loop, const Options& options) {
  ServerProcess servers(options.servers);
  loop.mark("listening");
  {
    // A proxy's buffers that serve any session are not the cost of an idle one: touch them first.
    constexpr std::size_t kWarmConnections = 32;
    Idlers warm(loop, options);
    warm.open(kWarmConnections);
    for (std::uint64_t i = 0; i < options.warmup / kWarmConnections; ++i) warm.ping_every(1);
    warm.close_all();
    if (warm.errors() > 0) fail("warm-up session: " + warm.first_error());
  }
  Result result;
  loop.mark("base");
  Idlers idlers(loop, options);
  const Clock::time_point begin = Clock::now();
  idlers.open(options.connections);
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  loop.mark("held");
  idlers.ping_every(100);
  result.errors = idlers.errors();
  result.first_error = idlers.first_error();
  result.operations = options.connections - result.errors;
  std::vector<float>& latencies = idlers.latencies();
  std::sort(latencies.begin(), latencies.end());
  result.latency_p50_us = percentile(latencies, 0.5);
  result.latency_p99_us = percentile(latencies, 0.99);
  idlers.close_all();
  return result;
}

}  // namespace bench
