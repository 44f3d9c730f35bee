// Ids in sets, in files, and balanced: a loss and a duplicate are found exactly.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <random>
#include <set>
#include <sstream>
#include <string>

#include "loadgen/ledger/compare.h"
#include "loadgen/ledger/id_set.h"
#include "loadgen/ledger/ledger_file.h"

namespace poise::loadgen {
namespace {

TEST(IdSet, agrees_with_a_set_of_texts) {
  std::mt19937 random(11);
  IdSet ids;
  std::set<std::string> model;
  const char* runs[] = {"run", "run-1", "", "0a"};
  for (int step = 0; step < 100'000; ++step) {
    std::string id = std::string(runs[random() % 4]) + "-" + std::to_string(random() % 9000);
    if (random() % 10 == 0) id = "<" + id + "@example.org>";
    if (random() % 50 == 0) id.insert(id.rfind('-') + 1, "0");  // 07 is not 7
    ASSERT_EQ(ids.contains(id), model.contains(id)) << id;
    const bool first = model.insert(id).second;
    ASSERT_EQ(ids.add(id), first ? IdSet::Added::first : IdSet::Added::again) << id;
  }
  EXPECT_EQ(ids.size(), model.size());
}

TEST(IdSet, numbers_at_the_edges) {
  IdSet ids;
  for (const char* id : {"r-0", "r-4095", "r-4096", "r-17592186044415", "r-17592186044416",
                         "r-18446744073709551616", "-5", "r-", "r--1"}) {
    EXPECT_FALSE(ids.contains(id)) << id;
    EXPECT_EQ(ids.add(id), IdSet::Added::first) << id;
    EXPECT_EQ(ids.add(id), IdSet::Added::again) << id;
    EXPECT_TRUE(ids.contains(id)) << id;
  }
}

LedgerBalance compare(const std::string& sent, const std::string& received,
                      const std::string& also_received = "") {
  LedgerComparison comparison;
  std::istringstream sent_lines(sent);
  std::istringstream lines(received);
  std::istringstream more_lines(also_received);
  comparison.add_received(lines);
  comparison.add_sent(sent_lines);
  comparison.add_received(more_lines);
  return comparison.balance();
}

TEST(Ledger, all_arrived_once) {
  const LedgerBalance balance = compare("a-1\na-2\na-3\n", "a-3\na-1\n", "a-2\n");
  EXPECT_TRUE(balance.balanced());
  EXPECT_EQ(balance.accepted, 3u);
  EXPECT_EQ(balance.received, 3u);
  EXPECT_EQ(balance.unconfirmed, 0u);
}

TEST(Ledger, loss_is_named) {
  const LedgerBalance balance = compare("a-1\na-2\na-3\n", "a-1\na-3\n");
  EXPECT_FALSE(balance.balanced());
  EXPECT_EQ(balance.lost, 1u);
  EXPECT_EQ(balance.lost_examples, std::vector<std::string>{"a-2"});
}

TEST(Ledger, duplicate_is_found_within_one_file_and_across_files) {
  EXPECT_EQ(compare("a-1\n", "a-1\na-1\n").duplicated, 1u);
  const LedgerBalance balance = compare("a-1\na-2\n", "a-1\na-2\n", "a-2\na-2\n");
  EXPECT_EQ(balance.duplicated, 2u);
  EXPECT_EQ(balance.lost, 0u);
  EXPECT_FALSE(balance.balanced());
  EXPECT_EQ(balance.duplicated_examples.front(), "a-2");
}

TEST(Ledger, arrival_without_confirmation_is_no_loss) {
  const LedgerBalance balance = compare("a-1\n", "a-1\na-2\n");
  EXPECT_TRUE(balance.balanced());
  EXPECT_EQ(balance.unconfirmed, 1u);
}

TEST(Ledger, file_appends_and_is_readable_after_flush) {
  const std::string path = testing::TempDir() + "/poise-ledger-" + std::to_string(getpid());
  for (const char* id : {"a-1", "a-2"}) {
    Result<LedgerFile> file = LedgerFile::open(path);
    ASSERT_TRUE(file);
    file->add(id);
    ASSERT_TRUE(file->flush());
    std::ifstream lines(path);
    std::string last;
    for (std::string line; std::getline(lines, line);) last = line;
    EXPECT_EQ(last, id);
  }
  std::ifstream lines(path);
  const std::string content(std::istreambuf_iterator<char>(lines), {});
  EXPECT_EQ(content, "a-1\na-2\n");
  unlink(path.c_str());
}

TEST(Ledger, full_disk_is_told) {
  Result<LedgerFile> file = LedgerFile::open("/dev/full");
  ASSERT_TRUE(file);
  file->add("a-1");
  EXPECT_FALSE(file->flush());
  EXPECT_FALSE(LedgerFile::open("/nowhere/ledger"));
}

}  // namespace
}  // namespace poise::loadgen
