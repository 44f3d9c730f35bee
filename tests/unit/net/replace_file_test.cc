#include "net/replace_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace poise::net {
namespace {

namespace fs = std::filesystem;

class ReplaceFile : public testing::Test {
 protected:
  ReplaceFile() { fs::create_directory(folder_); }
  ~ReplaceFile() override { fs::remove_all(folder_); }

  [[nodiscard]] std::string content() const {
    std::ifstream file(path_);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  [[nodiscard]] auto files() const {
    return std::distance(fs::directory_iterator(folder_), fs::directory_iterator{});
  }

  fs::path folder_ = testing::TempDir() + "poise-replace-" + std::to_string(::getpid());
  std::string path_ = folder_ / "file";
};

// What somebody who was cut off left, or linked to, is neither followed nor kept.
TEST_F(ReplaceFile, takes_the_place_with_its_own_mode) {
  const std::string elsewhere = folder_ / "elsewhere";
  std::ofstream(elsewhere) << "theirs";
  fs::create_symlink(elsewhere, path_ + ".new");
  for (const auto& [text, how] : {std::pair<std::string, Replacing>{"one\n", {.mode = 0666}},
                                  {std::string(3'000'000, 'x'), {.mode = 0600, .durable = true}},
                                  {"", {.mode = 0640}}}) {
    const auto done = replace_file(path_, text, how);
    ASSERT_TRUE(done) << done.error().text();
    EXPECT_EQ(content(), text);
    struct stat seen {};
    ASSERT_EQ(::stat(path_.c_str(), &seen), 0);
    EXPECT_EQ(seen.st_mode & 07777, how.mode);
    EXPECT_EQ(files(), 2);
  }
  EXPECT_EQ(fs::file_size(elsewhere), 6u);
}

TEST_F(ReplaceFile, a_name_without_a_folder_is_here) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_);
  EXPECT_TRUE(replace_file("file", "one", {.mode = 0600, .durable = true}));
  fs::current_path(before);
  EXPECT_EQ(content(), "one");
}

// Half of it fits: the old file stays, and nothing beside it.
TEST_F(ReplaceFile, full_disk_leaves_the_old_file) {
  ASSERT_TRUE(replace_file(path_, "old", {.mode = 0600}));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 1000, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto done = replace_file(path_, std::string(2000, 'x'), {.mode = 0600, .durable = true});
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().text(), path_ + ": cannot be written: File too large");
  EXPECT_EQ(content(), "old");
  EXPECT_EQ(files(), 1);
}

TEST_F(ReplaceFile, what_cannot_be_replaced_leaves_nothing) {
  fs::create_directories(path_ + "/in/it");
  const auto done = replace_file(path_, "text", {.mode = 0600});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().text(), path_ + ": cannot be written: Is a directory");
  EXPECT_EQ(files(), 1);
  EXPECT_FALSE(replace_file(folder_ / "no/such", "text", {.mode = 0600}));
}

}  // namespace
}  // namespace poise::net
