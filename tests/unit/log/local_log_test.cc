#include "log/local_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>

namespace poise::log {
namespace {

using config::LogFormat;
using config::LogTarget;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

/// What a log daemon is to us: a datagram socket.
class Daemon {
 public:
  explicit Daemon(std::string path) : path_(std::move(path)) {
    ::unlink(path_.c_str());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
    fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  ~Daemon() {
    ::close(fd_);
    ::unlink(path_.c_str());
  }
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  std::string take() {
    std::array<char, 65536> block;
    const ssize_t got = ::recv(fd_, block.data(), block.size(), 0);
    return got < 0 ? "nothing" : std::string(block.data(), static_cast<std::size_t>(got));
  }

 private:
  std::string path_;
  int fd_;
};

std::string some_path() {
  return testing::TempDir() + "poise-log-" + std::to_string(::getpid());
}

TEST(LocalLog, syslog_gets_facility_mail_and_the_lines_level) {
  Daemon daemon(some_path());
  LocalLog log(LogTarget::syslog, LogFormat::text, some_path());
  ASSERT_TRUE(log.open());
  EXPECT_EQ(log.send("2026-11-21T18:50:17.123Z warning disk is full"), LocalLog::Sent::done);
  const std::string said = daemon.take();
  EXPECT_THAT(said, StartsWith("<20>"));  // 2 * 8 + 4
  EXPECT_THAT(said, EndsWith(" poised[" + std::to_string(::getpid()) + "]: disk is full"));
}

TEST(LocalLog, the_journal_gets_fields) {
  Daemon daemon(some_path());
  LocalLog log(LogTarget::journal, LogFormat::json, some_path());
  ASSERT_TRUE(log.open());
  EXPECT_EQ(log.send("T error broken"), LocalLog::Sent::done);
  const std::string said = daemon.take();
  EXPECT_THAT(said, HasSubstr("PRIORITY=3\n"));
  EXPECT_THAT(said, HasSubstr("SYSLOG_FACILITY=2\nSYSLOG_IDENTIFIER=poised\n"));
  EXPECT_THAT(said,
              EndsWith("MESSAGE={\"time\":\"T\",\"level\":\"error\",\"message\":\"broken\"}\n"));
}

TEST(LocalLog, a_daemon_that_was_restarted_is_found_again) {
  LocalLog log(LogTarget::syslog, LogFormat::text, some_path());
  {
    Daemon first(some_path());
    ASSERT_TRUE(log.open());
  }
  EXPECT_EQ(log.send("T info lost"), LocalLog::Sent::failed);
  Daemon second(some_path());
  EXPECT_EQ(log.send("T info kept"), LocalLog::Sent::done);
  EXPECT_THAT(second.take(), EndsWith(": kept"));
}

TEST(LocalLog, a_daemon_that_does_not_read_is_waited_for) {
  Daemon daemon(some_path());
  LocalLog log(LogTarget::syslog, LogFormat::text, some_path());
  ASSERT_TRUE(log.open());
  LocalLog::Sent sent = LocalLog::Sent::done;
  for (int i = 0; i < 100'000 && sent == LocalLog::Sent::done; ++i) sent = log.send("T info more");
  EXPECT_EQ(sent, LocalLog::Sent::stalled);
}

TEST(LocalLog, no_daemon_is_a_clear_error) {
  LocalLog log(LogTarget::journal, LogFormat::text, "/nonexistent/socket");
  const auto opened = log.open();
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().text(), HasSubstr("systemd-journald"));
}

}  // namespace
}  // namespace poise::log
