// The ring on the kernel this runs on: each promise of io.h that the session leans on.
#include "io/uring.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "net/fd.h"
#include "net/socket.h"

namespace poise::io {
namespace {

class Ring : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = make_uring({.buffers = 16, .buffer_bytes = 1024});
    ASSERT_TRUE(made) << made.error().text();
    io_ = std::move(*made);
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    ours_ = net::Fd(ends[0]);
    theirs_ = net::Fd(ends[1]);
  }

  /// The completions of the next turns until there are `count`, or nothing comes for a second.
  std::vector<Completion> completions(std::size_t count) {
    std::vector<Completion> all;
    const Time until = io_->now() + std::chrono::seconds(5);
    while (all.size() < count && io_->now() < until) {
      const auto batch = io_->wait(until);
      all.insert(all.end(), batch.begin(), batch.end());
    }
    return all;
  }

  std::string text(const Completion& done) {
    const auto bytes = io_->buffer(done.buffer, done.res);
    std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    io_->release_buffer(done.buffer);
    return text;
  }

  static std::span<const std::byte> bytes(const std::string& text) {
    return std::as_bytes(std::span(text));
  }

  std::unique_ptr<Io> io_;
  net::Fd ours_, theirs_;
  const Tag recv_tag_{
      .slot = 7, .generation = 3, .op = Op::recv, .direction = Direction::to_client};
};

// One receive delivers what comes, again and again, into shared buffers; EOF ends it.
TEST_F(Ring, receives_until_eof) {
  io_->recv(ours_.get(), recv_tag_);
  io_->submit();
  ASSERT_EQ(::write(theirs_.get(), "hello", 5), 5);
  auto done = completions(1);
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].tag, recv_tag_);
  EXPECT_TRUE(done[0].more);
  EXPECT_EQ(text(done[0]), "hello");
  ASSERT_EQ(::write(theirs_.get(), "again", 5), 5);
  theirs_.reset();
  done = completions(2);
  ASSERT_EQ(done.size(), 2u);
  EXPECT_EQ(text(done[0]), "again");
  EXPECT_EQ(done[1].res, 0);
  EXPECT_FALSE(done[1].more);
}

// With every shared buffer taken a receive ends with -ENOBUFS; the bytes stay, and come when it is
// armed again.
TEST_F(Ring, says_when_buffers_run_out) {
  const std::string much(20 * 1024, 'x');
  int size = 1 << 20;
  ::setsockopt(theirs_.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  ASSERT_EQ(::write(theirs_.get(), much.data(), much.size()), static_cast<ssize_t>(much.size()));
  io_->recv(ours_.get(), recv_tag_);
  auto done = completions(17);
  ASSERT_EQ(done.size(), 17u);
  EXPECT_EQ(done[16].res, -ENOBUFS);
  EXPECT_FALSE(done[16].more);
  std::size_t got = 0;
  for (int i = 0; i < 16; ++i) {
    got += static_cast<std::size_t>(done[static_cast<std::size_t>(i)].res);
    io_->release_buffer(done[static_cast<std::size_t>(i)].buffer);
  }
  EXPECT_EQ(got, 16u * 1024);
  io_->recv(ours_.get(), recv_tag_);
  for (const Completion& each : completions(4))
    got += static_cast<std::size_t>(std::max(each.res, 0));
  EXPECT_EQ(got, much.size());
}

// A cancelled receive ends with -ECANCELED and nothing else; the cancel itself says nothing.
TEST_F(Ring, cancels_a_receive) {
  io_->recv(ours_.get(), recv_tag_);
  io_->submit();
  io_->cancel(recv_tag_);
  const auto done = completions(1);
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].tag, recv_tag_);
  EXPECT_EQ(done[0].res, -ECANCELED);
  EXPECT_FALSE(done[0].more);
  EXPECT_TRUE(io_->submit().empty());
}

// A quiet send that the socket takes says nothing and is out when submit() returns; one that it
// does not take whole says how far it got, in the same call.
TEST_F(Ring, quiet_sends_speak_only_of_shortages) {
  const Tag tag{.slot = 1, .op = Op::report};
  const std::string words = "quiet", much(1 << 22, 'y');
  io_->send_quietly(ours_.get(), bytes(words), tag);
  EXPECT_TRUE(io_->submit().empty());
  char got[16] = {};
  EXPECT_EQ(::read(theirs_.get(), got, sizeof got), 5);
  EXPECT_EQ(std::string(got), words);

  io_->send_quietly(ours_.get(), bytes(much), tag);
  auto reports = io_->submit();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].tag, tag);
  const std::int32_t first = reports[0].res;
  EXPECT_GT(first, 0);
  EXPECT_LT(first, 1 << 22);
  io_->send_quietly(ours_.get(), bytes(much), tag);
  reports = io_->submit();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].res, -EAGAIN);
  theirs_.reset();
  io_->send_quietly(ours_.get(), bytes(words), tag);
  reports = io_->submit();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_TRUE(reports[0].res == -EPIPE || reports[0].res == -ECONNRESET) << reports[0].res;
}

// A send waits for room and then takes at least a byte.
TEST_F(Ring, send_waits_for_room) {
  const std::string much(1 << 22, 'z');
  const Tag tag{.slot = 2, .op = Op::send};
  io_->send(ours_.get(), bytes(much), tag);
  auto done = completions(1);
  ASSERT_EQ(done.size(), 1u);
  ASSERT_GT(done[0].res, 0);
  io_->send(ours_.get(), bytes(much), tag);
  EXPECT_TRUE(io_->submit().empty());
  std::vector<char> sink(1 << 22);
  ASSERT_GT(::read(theirs_.get(), sink.data(), sink.size()), 0);
  done = completions(1);
  ASSERT_EQ(done.size(), 1u);
  EXPECT_GT(done[0].res, 0);
}

// wake() from another thread ends a wait without a limit; a limit ends it too.
TEST_F(Ring, wakes_and_times_out) {
  std::thread other([this] { io_->wake(); });
  const auto woken = io_->wait(Time::max());
  other.join();
  ASSERT_EQ(woken.size(), 1u);
  EXPECT_EQ(woken[0].tag.op, Op::wake);
  const Time until = io_->now() + std::chrono::milliseconds(5);
  EXPECT_TRUE(io_->wait(until).empty());
  EXPECT_GE(io_->now(), until);
  // An earlier deadline than the one that is armed is kept as well.
  const Time far = io_->now() + std::chrono::hours(1),
             near = io_->now() + std::chrono::milliseconds(5);
  io_->wake();
  io_->wait(far);
  EXPECT_TRUE(io_->wait(near).empty());
  EXPECT_GE(io_->now(), near);
  EXPECT_LT(io_->now(), far);
}

// Accept, connect, and the last bytes together with the FIN.
TEST_F(Ring, accepts_connects_and_finishes) {
  auto listener = net::open_listener(*Address::from_ip("127.0.0.1", 0), {});
  ASSERT_TRUE(listener) << listener.error().text();
  const Address address = net::local_address(listener->get());
  const Tag accept_tag{.slot = 1, .op = Op::accept}, connect_tag{.slot = 2, .op = Op::connect};
  io_->accept(listener->get(), accept_tag);
  const int client = io_->open_socket(AF_INET, "system");
  ASSERT_GE(client, 0);
  io_->connect(client, address, connect_tag);
  auto done = completions(2);
  ASSERT_EQ(done.size(), 2u);
  int accepted = -1;
  for (const Completion& each : done) {
    if (each.tag == accept_tag) {
      accepted = each.res;
      EXPECT_TRUE(each.more);
    } else {
      EXPECT_EQ(each.res, 0);
    }
  }
  ASSERT_GE(accepted, 0);
  EXPECT_EQ(io_->peer_address(accepted), io_->local_address(client));
  const std::string words = "goodbye";
  const std::span<const std::byte> part = bytes(words);
  EXPECT_EQ(io_->send_now(client, std::span(&part, 1), true), 7);
  io_->recv(accepted, recv_tag_);
  done = completions(2);
  ASSERT_EQ(done.size(), 2u);
  EXPECT_EQ(text(done[0]), words);
  EXPECT_EQ(done[1].res, 0);
  io_->close(client);
  io_->close(accepted);
  io_->cancel(accept_tag);
  done = completions(1);
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].res, -ECANCELED);
  EXPECT_EQ(::close(client), -1) << "close() by the ring did not happen";
}

// A connect that is refused says so.
TEST_F(Ring, connect_is_refused) {
  const Address nobody = [] {
    auto listener = net::open_listener(*Address::from_ip("127.0.0.1", 0), {});
    return net::local_address(listener->get());  // closed again: the port is free
  }();
  const int client = io_->open_socket(AF_INET, "system");
  io_->connect(client, nobody, Tag{.slot = 9, .op = Op::connect});
  const auto done = completions(1);
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].res, -ECONNREFUSED);
  io_->close(client);
  io_->submit();
}

// More operations than the submission queue has entries are all begun.
TEST_F(Ring, a_full_queue_is_no_limit) {
  auto small = make_uring(
      {.submission_entries = 8, .completion_entries = 16, .buffers = 4, .buffer_bytes = 256});
  ASSERT_TRUE(small) << small.error().text();
  const std::string words = "x";
  for (int i = 0; i < 100; ++i)
    (*small)->send_quietly(ours_.get(), bytes(words), Tag{.slot = 1, .op = Op::report});
  EXPECT_TRUE((*small)->submit().empty());
  char got[256];
  EXPECT_EQ(::read(theirs_.get(), got, sizeof got), 100);
}

}  // namespace
}  // namespace poise::io
