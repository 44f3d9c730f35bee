#include "pair/vrrp.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "pair/guard.h"
#include "pair/key.h"

namespace poise::pair {
namespace {

TEST(Notice, is_a_line_about_an_instance) {
  struct Row {
    const char* line;
    const char* instance;  ///< null: none
    Role role;
  };
  for (const Row& row : {Row{"INSTANCE \"mail\" MASTER 150", "mail", Role::master},
                         Row{"INSTANCE \"mail\" BACKUP 100", "mail", Role::backup},
                         Row{"INSTANCE \"mail\" FAULT 100", "mail", Role::fault},
                         Row{"INSTANCE \"mail\" STOP 100", "mail", Role::unknown},
                         Row{"INSTANCE \"mail\" MASTER_RX_LOWER_PRI 1", "mail", Role::unknown},
                         Row{"INSTANCE \"mail\" MASTER", "mail", Role::master},
                         Row{"GROUP \"pair\" MASTER 150", nullptr, {}},
                         Row{"INSTANCE \"mail", nullptr, {}}, Row{"", nullptr, {}}}) {
    const auto notice = parse_notice(row.line);
    ASSERT_EQ(notice.has_value(), row.instance != nullptr) << row.line;
    if (!notice) continue;
    EXPECT_EQ(notice->instance, row.instance) << row.line;
    EXPECT_EQ(notice->role, row.role) << row.line;
  }
}

TEST(RoleOf, addresses_have_the_first_word) {
  EXPECT_EQ(role_of(true, false, std::nullopt, true), Role::master);
  EXPECT_EQ(role_of(true, true, Role::backup, false), Role::master);
  EXPECT_EQ(role_of(false, false, Role::master, true), Role::unknown);
  EXPECT_EQ(role_of(false, true, Role::master, true), Role::backup);
  EXPECT_EQ(role_of(false, true, std::nullopt, true), Role::backup);
  EXPECT_EQ(role_of(false, true, std::nullopt, false), Role::fault);
  EXPECT_EQ(role_of(false, true, Role::fault, true), Role::fault);
  EXPECT_EQ(role_of(false, true, Role::unknown, true), Role::unknown);
}

TEST(Whole, is_master_if_any_is) {
  using I = VrrpWatch::Instance;
  EXPECT_EQ(whole({}), Role::unknown);
  EXPECT_EQ(whole({I{"a", Role::backup}, I{"b", Role::master}}), Role::master);
  EXPECT_EQ(whole({I{"a", Role::backup}, I{"b", Role::fault}}), Role::fault);
  EXPECT_EQ(whole({I{"a", Role::backup}, I{"b", Role::unknown}}), Role::backup);
}

struct Folder {
  std::string path;
  Folder() {
    std::string text = std::filesystem::temp_directory_path() / "poise-pair-XXXXXX";
    path = ::mkdtemp(text.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
};

/// A keepalived comes, speaks, and goes; 127.0.0.1 stands for an address that the machine has.
TEST(VrrpWatch, hears_keepalived_and_sees_addresses) {
  const Folder folder;
  const std::string fifo = folder.path + "/fifo";
  VrrpWatch watch;
  ASSERT_TRUE(watch.open(fifo));
  config::Vrrp away{.name = "away", .interface = "lo", .router_id = 1, .virtual_addresses = {}};
  away.virtual_addresses = {{.address = *Address::from_ip("192.0.2.77"), .prefix = 24}};
  config::Vrrp here = away;
  here.name = "here";
  here.virtual_addresses = {{.address = *Address::from_ip("127.0.0.1"), .prefix = 8}};
  watch.configure({away, here});
  EXPECT_TRUE(watch.look(true));
  EXPECT_FALSE(watch.look(true));
  EXPECT_EQ(watch.roles()[0].role, Role::unknown);
  EXPECT_EQ(watch.roles()[1].role, Role::master);

  const int writer = ::open(fifo.c_str(), O_RDWR | O_NONBLOCK);
  ASSERT_GE(writer, 0);
  EXPECT_TRUE(watch.look(true));
  EXPECT_EQ(watch.roles()[0].role, Role::backup);
  const std::string said = "INSTANCE \"away\" FAULT 100\nINSTANCE \"aw";
  ASSERT_EQ(::write(writer, said.data(), said.size()), static_cast<ssize_t>(said.size()));
  EXPECT_TRUE(watch.look(true));
  EXPECT_EQ(watch.roles()[0].role, Role::fault);
  const std::string rest = "ay\" BACKUP 100\n";
  ASSERT_EQ(::write(writer, rest.data(), rest.size()), static_cast<ssize_t>(rest.size()));
  EXPECT_TRUE(watch.look(true));
  EXPECT_EQ(watch.roles()[0].role, Role::backup);
  ::close(writer);
  EXPECT_TRUE(watch.look(true));
  EXPECT_EQ(watch.roles()[0].role, Role::unknown);
}

std::string content(const std::string& path) {
  std::ifstream file(path);
  std::string text;
  std::getline(file, text);
  return text;
}

bool becomes(const std::string& path, const std::string& wanted) {
  for (int i = 0; i < 1000; ++i) {
    if (content(path) == wanted) return true;
    ::usleep(10'000);
  }
  return false;
}

/// Good while it is told so, bad when told so, when nothing comes, and when we are gone.
TEST(Guard, writes_what_it_sees_of_us) {
  const Folder folder;
  const std::string file = folder.path + "/track";
  {
    auto guard = Guard::start(file);
    ASSERT_TRUE(guard) << guard.error().text();
    EXPECT_EQ(content(file), "1");
    guard->beat(true);
    EXPECT_TRUE(becomes(file, "0"));
    guard->beat(false);
    EXPECT_TRUE(becomes(file, "1"));
    guard->beat(true);
    EXPECT_TRUE(becomes(file, "0"));
    EXPECT_TRUE(becomes(file, "1"));  // silence
    guard->beat(true);
    EXPECT_TRUE(becomes(file, "0"));
  }
  EXPECT_TRUE(becomes(file, "1"));
}

TEST(Key, is_long_and_secret) {
  const Folder folder;
  const std::string path = folder.path + "/key";
  const auto written = [&](const std::string& text, mode_t mode) {
    std::ofstream(path) << text;
    ::chmod(path.c_str(), mode);
    return read_key(path);
  };
  EXPECT_FALSE(read_key(path));
  const std::string good(64, 'k');
  const auto key = written(good + "\nsomething else\n", 0640);
  ASSERT_TRUE(key);
  EXPECT_EQ(*key, good);
  const auto open = written(good, 0644);
  ASSERT_FALSE(open);
  EXPECT_NE(open.error().what.find("chmod"), std::string::npos);
  EXPECT_FALSE(written("short", 0600));
  EXPECT_FALSE(written(std::string(2000, 'k'), 0600));
}

}  // namespace
}  // namespace poise::pair
