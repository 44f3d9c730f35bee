// The loops' small parts: deadlines against a model, output against plain concatenation.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "loadgen/loop/deadlines.h"
#include "loadgen/loop/output.h"
#include "loadgen/loop/socket.h"

namespace poise::loadgen {
namespace {

TEST(Deadlines, agree_with_a_sorted_table_under_random_use) {
  std::mt19937 random(3);
  Deadlines deadlines;
  std::map<std::uint32_t, Nanos> model;  // by slot
  Nanos clock = 0;
  for (int step = 0; step < 50'000; ++step) {
    const auto slot = static_cast<std::uint32_t>(random() % 200);
    switch (random() % 4) {
      case 0:
      case 1: {
        const Nanos deadline = clock + static_cast<Nanos>(random() % 1000);
        deadlines.set(slot, deadline);
        model[slot] = deadline;
        break;
      }
      case 2:
        deadlines.clear(slot);
        model.erase(slot);
        break;
      default: {
        clock += static_cast<Nanos>(random() % 50);
        std::uint32_t due = 0;
        Nanos last = 0;
        while (deadlines.pop_due(clock, due)) {
          ASSERT_TRUE(model.contains(due));
          ASSERT_LE(model[due], clock);
          ASSERT_GE(model[due], last);
          last = model[due];
          model.erase(due);
        }
      }
    }
    Nanos earliest = kNever;
    for (const auto& [unused, deadline] : model) earliest = std::min(earliest, deadline);
    ASSERT_EQ(deadlines.earliest(), earliest);
  }
}

TEST(Output, is_the_concatenation_whatever_is_sent_at_once) {
  std::mt19937 random(5);
  const std::string shared = "the body that all sessions share";
  for (int round = 0; round < 500; ++round) {
    Output out;
    std::string expected;
    std::string sent;
    for (int step = 0; step < 20; ++step) {
      if (random() % 3 == 0) {
        out.append_shared(shared);
        expected += shared;
      } else {
        const std::string piece(random() % 10, static_cast<char>('a' + random() % 26));
        out.append(piece);
        expected += piece;
      }
      if (random() % 2 == 0) continue;
      iovec vectors[3];
      const std::size_t limit = random() % 40 + 1;
      const std::size_t count = out.front(vectors, 3, limit);
      std::size_t offered = 0;
      std::string bytes;
      for (std::size_t at = 0; at < count; ++at) {
        bytes.append(static_cast<const char*>(vectors[at].iov_base), vectors[at].iov_len);
        offered += vectors[at].iov_len;
      }
      ASSERT_LE(offered, limit);
      if (offered == 0) continue;
      const std::size_t taken = random() % offered + 1;  // a short write
      sent += bytes.substr(0, taken);
      out.consume(taken);
      ASSERT_EQ(out.size(), expected.size() - sent.size());
    }
    EXPECT_EQ(sent + out.text(), expected);
  }
}

TEST(Output, shared_bytes_cost_nothing) {
  const std::string body(1 << 20, 'x');
  Output out;
  out.append("250 ");
  for (int at = 0; at < 100; ++at) out.append_shared(body);
  EXPECT_EQ(out.size(), 4 + 100 * body.size());
  EXPECT_EQ(out.owned_size(), 4u);
}

TEST(Address, forms_accepted_and_refused) {
  EXPECT_EQ(parse_address("127.0.0.1:25")->text(), "127.0.0.1:25");
  EXPECT_EQ(parse_address("[::1]:25")->text(), "[::1]:25");
  EXPECT_EQ(parse_address(":25")->text(), "127.0.0.1:25");
  EXPECT_EQ(parse_address("127.0.0.1:0")->port, 0);
  for (const char* wrong : {"127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000",
                            "127.0.0.1:-1", "::1:25", "[::1:25"}) {
    const Result<Address> address = parse_address(wrong);
    ASSERT_FALSE(address) << wrong;
    EXPECT_NE(address.error().text().find(wrong), std::string::npos);
  }
}

}  // namespace
}  // namespace poise::loadgen
