// Many probes at once over real sockets: each is answered once, and all descriptors come back.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "health/foreground.h"
#include "health/probe.h"

namespace poise::health {
namespace {

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

/// A listener on a port of its own; what it does is the test's.
class Listener {
 public:
  Listener() : fd_(::socket(AF_INET, SOCK_STREAM, 0)), address_(*Address::from_ip("127.0.0.1")) {
    sockaddr_storage storage;
    socklen_t length = address_.to_sockaddr(storage);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&storage), length), 0);
    EXPECT_EQ(::listen(fd_, 1024), 0);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&storage), &length);
    address_ = Address::from_sockaddr(storage);
  }
  ~Listener() { ::close(fd_); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  [[nodiscard]] const Address& address() const { return address_; }

  /// Greets `count` clients, answers their QUIT, closes.
  void serve(int count) const {
    for (int i = 0; i < count; ++i) {
      const int client = ::accept(fd_, nullptr, nullptr);
      char word[64];
      EXPECT_EQ(::send(client, "220 mx1\r\n", 9, MSG_NOSIGNAL), 9);
      const ssize_t heard = ::recv(client, word, sizeof word, 0);
      EXPECT_EQ(std::string(word, static_cast<std::size_t>(std::max<ssize_t>(heard, 0))),
                "QUIT\r\n");
      EXPECT_EQ(::send(client, "221 bye\r\n", 9, MSG_NOSIGNAL), 9);
      EXPECT_EQ(::recv(client, word, sizeof word, 0), 0) << "an orderly end, no reset";
      ::close(client);
    }
  }

 private:
  int fd_;
  Address address_;
};

ProbeRequest towards(const Address& address) {
  ProbeRequest request;
  request.address = address;
  request.type = config::ProbeType::smtp;
  request.hostname = "probe.test";
  request.timeout = std::chrono::seconds(20);
  return request;
}

TEST(Prober, many_at_once_each_answered_once) {
  const Listener listener;
  std::thread server([&] { listener.serve(200); });
  const std::size_t before = open_descriptors();
  const std::vector<ProbeResult> results =
      run_probes(std::vector<ProbeRequest>(200, towards(listener.address())), 50);
  server.join();
  EXPECT_EQ(open_descriptors(), before);
  ASSERT_EQ(results.size(), 200u);
  for (const ProbeResult& result : results) {
    EXPECT_TRUE(result.good()) << name_of(result.outcome) << " " << result.words;
    EXPECT_EQ(result.words, "220 mx1");
    EXPECT_GT(result.connect.count(), 0);
    EXPECT_GE(result.total, result.connect);
  }
}

TEST(Prober, where_nobody_listens_it_is_refused) {
  Address nobody;
  {
    const Listener gone;
    nobody = gone.address();
  }
  for (const bool keep_transcript : {false, true}) {  // scheduled, and by hand
    ProbeRequest request = towards(nobody);
    request.keep_transcript = keep_transcript;
    const ProbeResult result = run_probes({request}, 1).at(0);
    EXPECT_EQ(result.outcome, ProbeOutcome::refused);
    EXPECT_EQ(result.words, "[connect: Connection refused]");
    EXPECT_EQ(result.step, "connect");
    EXPECT_FALSE(result.local_fault);
  }
}

TEST(Prober, a_source_that_is_not_ours_is_no_fault_of_the_server) {
  const Listener listener;
  ProbeRequest request = towards(listener.address());
  request.source_address = Address::from_ip("192.0.2.77");
  const ProbeResult result = run_probes({request}, 1).at(0);
  EXPECT_EQ(result.outcome, ProbeOutcome::unreachable);
  EXPECT_TRUE(result.local_fault);
  EXPECT_EQ(result.words, "[source address 192.0.2.77: Cannot assign requested address]");
}

TEST(Prober, an_unreadable_ca_file_is_no_fault_of_the_server) {
  const Listener listener;
  ProbeRequest request = towards(listener.address());
  request.tls = config::ProbeTls::implicit;
  request.verify = true;
  request.ca_file = "/nonexistent/ca.pem";
  const ProbeResult result = run_probes({request}, 1).at(0);
  EXPECT_EQ(result.outcome, ProbeOutcome::certificate);
  EXPECT_TRUE(result.local_fault);
}

}  // namespace
}  // namespace poise::health
