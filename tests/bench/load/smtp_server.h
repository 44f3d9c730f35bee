#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "acceptor.h"
#include "loop.h"

namespace bench {

/// What both ends of the scripted SMTP session say. The lengths are fixed, so the client knows a
/// whole reply by its length and compares every byte.
namespace script {
inline constexpr std::string_view kGreeting = "220 mx.example.org ESMTP ready\r\n";
inline constexpr std::string_view kEhlo = "EHLO client.example.net\r\n";
inline constexpr std::string_view kEhloReply =
    "250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n250 DSN\r\n";
inline constexpr std::string_view kMail = "MAIL FROM:<sender@example.net> SIZE=4096\r\n";
inline constexpr std::string_view kRcpt = "RCPT TO:<recipient@example.org>\r\n";
inline constexpr std::string_view kOk = "250 2.1.0 Ok\r\n";
inline constexpr std::string_view kData = "DATA\r\n";
inline constexpr std::string_view kDataReply = "354 End data with <CR><LF>.<CR><LF>\r\n";
inline constexpr std::string_view kQueued = "250 2.0.0 Ok: queued as 4FzYxW1k2Qz9sX\r\n";
inline constexpr std::string_view kNoop = "NOOP\r\n";
inline constexpr std::string_view kQuit = "QUIT\r\n";
inline constexpr std::string_view kBye = "221 2.0.0 Bye\r\n";

/// 4 KiB, ending in CRLF.CRLF.
const std::string& body();
}  // namespace script

/// Scripted SMTP servers: greet at accept, answer by verb (a health probe's shorter dialogue is
/// served too), check the body byte by byte, and close first after QUIT. Must outlive the loop's
/// last turn.
class SmtpServers {
 public:
  SmtpServers(Loop& loop, const std::vector<sockaddr_in>& addresses);
  ~SmtpServers();
  SmtpServers(const SmtpServers&) = delete;
  SmtpServers& operator=(const SmtpServers&) = delete;

  /// Sessions in which the proxy changed what the client sent.
  [[nodiscard]] std::uint64_t damaged() const { return damaged_; }
  [[nodiscard]] std::vector<std::uint64_t> accepted() const;

 private:
  class Session;
  friend class Acceptor<SmtpServers>;

  void on_accept(int fd);
  void release(Session* session) { free_.push_back(session); }

  Loop& loop_;
  std::vector<std::unique_ptr<Acceptor<SmtpServers>>> listeners_;
  std::vector<std::unique_ptr<Session>> sessions_;
  std::vector<Session*> free_;
  std::uint64_t damaged_ = 0;
};

}  // namespace bench
