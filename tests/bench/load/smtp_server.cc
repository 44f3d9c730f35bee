#include "smtp_server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace bench {

const std::string& script::body() {
  static const std::string text = [] {
    constexpr std::size_t kBodyBytes = 4096;
    constexpr std::string_view kEnd = "\r\n.\r\n";
    std::string out = "Subject: load\r\n\r\n";
    constexpr std::size_t kLineBytesMax = 60;
    while (out.size() + kLineBytesMax + kEnd.size() < kBodyBytes) {
      // Each line carries its own offset, so that a shift or a swap doesn't go unseen.
      out += "line at " + std::to_string(out.size()) + " of a message that nobody reads\r\n";
    }
    out.resize(kBodyBytes - kEnd.size(), 'x');
    return out + std::string(kEnd);
  }();
  return text;
}

class SmtpServers::Session final : public Source {
 public:
  explicit Session(SmtpServers& servers) : servers_(servers) {}
  ~Session() {
    if (fd_ >= 0) close(fd_);
  }

  void start(int fd) {
    fd_ = fd;
    filled_ = 0;
    in_body_ = false;
    if (!say(script::kGreeting)) return;
    servers_.loop_.add(fd_, EPOLLIN, this);
  }

  void on_event(std::uint32_t) override {
    char* const end = buffer_.data() + filled_;
    const ssize_t got = recv(fd_, end, buffer_.size() - filled_, 0);
    if (got <= 0) {
      if (got < 0 && errno == EAGAIN) return;
      return finish();  // a probe that just leaves, or a client that already counted its error
    }
    filled_ += static_cast<std::size_t>(got);
    if (in_body_) {
      if (filled_ < script::body().size()) return;
      if (std::string_view(buffer_.data(), filled_) != script::body()) ++servers_.damaged_;
      in_body_ = false;
      filled_ = 0;
      say(script::kQueued);
      return;
    }
    if (buffer_[filled_ - 1] != '\n') {
      if (filled_ == buffer_.size()) finish();
      return;
    }
    const std::string_view line(buffer_.data(), filled_);
    filled_ = 0;
    answer(line);
  }

 private:
  void answer(std::string_view line) {
    const std::string_view verb = line.substr(0, 4);
    if (verb == "EHLO" || verb == "HELO") {
      say(script::kEhloReply);
    } else if (verb == "DATA") {
      if (say(script::kDataReply)) in_body_ = true;
    } else if (verb == "QUIT") {
      if (say(script::kBye)) finish();
    } else if (verb == "MAIL" || verb == "RCPT" || verb == "NOOP" || verb == "RSET") {
      if (verb == "MAIL" && line != script::kMail) ++servers_.damaged_;
      say(script::kOk);
    } else {
      ++servers_.damaged_;
      say("500 5.5.1 What?\r\n");
    }
  }

  /// False when the session is over. A short write can't happen: a reply always fits the socket
  /// buffer.
  bool say(std::string_view reply) {
    if (send(fd_, reply.data(), reply.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(reply.size()))
      return true;
    finish();
    return false;
  }

  void finish() {
    close(fd_);
    fd_ = -1;
    servers_.release(this);
  }

  SmtpServers& servers_;
  int fd_ = -1;
  bool in_body_ = false;
  std::size_t filled_ = 0;
  std::array<char, 8192> buffer_{};
};

SmtpServers::SmtpServers(Loop& loop, const std::vector<sockaddr_in>& addresses) : loop_(loop) {
  for (const sockaddr_in& address : addresses)
    listeners_.push_back(std::make_unique<Acceptor<SmtpServers>>(loop, address, *this));
}

SmtpServers::~SmtpServers() = default;

void SmtpServers::on_accept(int fd) {
  if (free_.empty()) {
    sessions_.push_back(std::make_unique<Session>(*this));
    free_.push_back(sessions_.back().get());
  }
  Session* const session = free_.back();
  free_.pop_back();
  session->start(fd);
}

std::vector<std::uint64_t> SmtpServers::accepted() const {
  std::vector<std::uint64_t> out;
  for (const auto& listener : listeners_) out.push_back(listener->accepted());
  return out;
}

}  // namespace bench
