#include <sys/socket.h>
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

/// What the client sends, and the whole reply it must get for it. The first step sends nothing: the
/// server greets.
struct Step {
  std::string_view send;
  std::string_view reply;
};

std::vector<Step> steps_of(Shape shape) {
  if (shape == Shape::quit) return {{"", script::kGreeting}, {script::kQuit, script::kBye}};
  return {{"", script::kGreeting},
          {script::kEhlo, script::kEhloReply},
          {script::kMail, script::kOk},
          {script::kRcpt, script::kOk},
          {script::kData, script::kDataReply},
          {script::body(), script::kQueued},
          {script::kQuit, script::kBye}};
}

/// A closed loop: as soon as one session is over the next one starts, until a phase's number is
/// started.
class Sessions {
 public:
  Sessions(Loop& loop, const Options& options)
      : loop_(loop), options_(options), steps_(steps_of(options.shape)) {
    for (unsigned i = 0; i < options.connections; ++i)
      clients_.push_back(std::make_unique<Client>(*this));
  }

  void run(std::uint64_t count) {
    to_start_ = count;
    active_ = 0;
    for (const auto& client : clients_) {
      if (to_start_ == 0) break;
      start(*client);
    }
    loop_.run_until([this] { return active_ == 0; }, options_.limit, "sessions don't end");
  }

  void forget() {
    good_ = 0;
    latencies_.clear();
    latencies_.reserve(options_.count);
  }

  [[nodiscard]] std::uint64_t good() const { return good_; }
  [[nodiscard]] std::uint64_t errors() const { return errors_; }
  [[nodiscard]] const std::string& first_error() const { return first_error_; }
  std::vector<float>& latencies() { return latencies_; }

 private:
  static constexpr std::uint64_t kErrorsMax = 1000;

  class Client final : public Source {
   public:
    explicit Client(Sessions& all) : all_(all) {}
    ~Client() {
      if (fd_ >= 0) close(fd_);
    }

    /// False when not even the connect could be begun.
    bool open(const sockaddr_in& target) {
      step_ = 0;
      filled_ = 0;
      begun_ = Clock::now();
      fd_ = connect_to(target);
      if (fd_ < 0) return false;
      all_.loop_.add(fd_, EPOLLIN, this);
      return true;
    }

    void on_event(std::uint32_t) override {
      const ssize_t got = recv(fd_, buffer_.data() + filled_, buffer_.size() - filled_, 0);
      if (got < 0) {
        if (errno == EAGAIN) return;
        return finish(std::strerror(errno));
      }
      const bool whole = step_ == all_.steps_.size();
      if (got == 0) return finish(whole ? nullptr : "closed early");
      if (whole) return finish("more than the script said");
      filled_ += static_cast<std::size_t>(got);
      const std::string_view reply = all_.steps_[step_].reply;
      if (filled_ < reply.size()) return;
      if (std::string_view(buffer_.data(), filled_) != reply) return finish("a changed reply");
      filled_ = 0;
      if (++step_ == all_.steps_.size()) return;  // the server's close is still awaited
      const std::string_view next = all_.steps_[step_].send;
      if (send(fd_, next.data(), next.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(next.size()))
        finish(std::strerror(errno));
    }

    [[nodiscard]] std::size_t step() const { return step_; }
    [[nodiscard]] float age_us() const {
      return std::chrono::duration<float, std::micro>(Clock::now() - begun_).count();
    }

   private:
    void finish(const char* error) {
      close(fd_);
      fd_ = -1;
      all_.on_finished(*this, error);
    }

    Sessions& all_;
    int fd_ = -1;
    std::size_t step_ = 0;
    std::size_t filled_ = 0;
    Clock::time_point begun_;
    std::array<char, 512> buffer_{};
  };

  void start(Client& client) {
    while (to_start_ > 0) {
      --to_start_;
      const sockaddr_in& target = options_.targets[next_target_++ % options_.targets.size()];
      if (client.open(target)) {
        ++active_;
        return;
      }
      count_error(client, std::strerror(errno));
    }
  }

  void on_finished(Client& client, const char* error) {
    --active_;
    if (error != nullptr) {
      count_error(client, error);
    } else {
      ++good_;
      latencies_.push_back(client.age_us());
    }
    start(client);
  }

  void count_error(const Client& client, const char* error) {
    if (first_error_.empty())
      first_error_ = std::string(error) + " at step " + std::to_string(client.step());
    if (++errors_ >= kErrorsMax)
      fail(std::to_string(errors_) + " sessions failed, first: " + first_error_);
  }

  Loop& loop_;
  const Options& options_;
  std::vector<Step> steps_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::uint64_t to_start_ = 0;
  std::uint64_t active_ = 0;
  std::uint64_t next_target_ = 0;
  std::uint64_t good_ = 0;
  std::uint64_t errors_ = 0;
  std::string first_error_;
  std::vector<float> latencies_;
};

}  // namespace

Result run_sessions(Loop& loop, const Options& options) {
  SmtpServers servers(loop, options.servers);
  loop.mark("listening");
  Sessions sessions(loop, options);
  sessions.run(options.warmup);
  sessions.forget();
  loop.settle(std::chrono::milliseconds(30));
  loop.mark("begin");
  const double cpu = own_cpu_seconds();
  const Clock::time_point begin = Clock::now();
  sessions.run(options.count);
  Result result;
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  result.own_cpu_seconds = own_cpu_seconds() - cpu;
  loop.settle(std::chrono::milliseconds(30));
  loop.mark("end");
  result.operations = sessions.good();
  result.errors = sessions.errors() + servers.damaged();
  result.first_error = sessions.first_error();
  if (result.first_error.empty() && servers.damaged() > 0)
    result.first_error = "a server got other bytes than the client sent";
  std::vector<float>& latencies = sessions.latencies();
  std::sort(latencies.begin(), latencies.end());
  result.latency_p50_us = percentile(latencies, 0.5);
  result.latency_p99_us = percentile(latencies, 0.99);
  result.accepted = servers.accepted();
  return result;
}

}  // namespace bench
