#include "control/operator_states.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace poise::control {
namespace {

class OperatorStatesTest : public testing::Test {
 protected:
  OperatorStatesTest()
      : folder_(testing::TempDir() + "poise-states-" + std::to_string(::getpid())),
        path_(folder_ + "/operator-states") {
    std::filesystem::create_directory(folder_);
  }
  ~OperatorStatesTest() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& text) { std::ofstream(path_) << text; }

  std::string folder_, path_;
};

TEST_F(OperatorStatesTest, what_is_saved_comes_back) {
  OperatorStates states(path_);
  OperatorStates::State state;
  state.admin = {.admin = Admin::disabled,
                 .reason = "tab\t newline\n 100% ü",
                 .user = "root",
                 .since = WallTime(std::chrono::seconds(1'700'000'000))};
  state.weight = 0;
  state.weight_configured = 7;
  states.set("mx/mx1", state);
  ASSERT_TRUE(states.save());

  OperatorStates again(path_);
  ASSERT_TRUE(again.load());
  const auto* found = again.find("mx/mx1");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->admin.admin, Admin::disabled);
  EXPECT_EQ(found->admin.reason, state.admin.reason);
  EXPECT_EQ(found->admin.user, "root");
  EXPECT_EQ(found->admin.since, state.admin.since);
  EXPECT_EQ(found->weight, 0u);
  EXPECT_EQ(found->weight_configured, 7u);
}

/// "Enabled" is a decision with a time: the other box of a pair may have an older one.
TEST_F(OperatorStatesTest, enabling_is_remembered_with_its_time) {
  OperatorStates states(path_);
  OperatorStates::State state;
  state.admin.since = WallTime(std::chrono::seconds(1'600'000'000));
  state.changed = WallTime(std::chrono::seconds(1'700'000'000));
  states.set("mx/mx1", state);
  ASSERT_TRUE(states.save());
  OperatorStates again(path_);
  ASSERT_TRUE(again.load());
  ASSERT_NE(again.find("mx/mx1"), nullptr);
  EXPECT_EQ(again.find("mx/mx1")->admin.admin, Admin::enabled);
  EXPECT_EQ(again.find("mx/mx1")->changed, state.changed);
}

TEST_F(OperatorStatesTest, lifted_bans_stay_lifted) {
  OperatorStates states(path_);
  const Network network{.base = *Address::from_ip("203.0.113.0"), .prefix = 24};
  const WallTime now(std::chrono::seconds(1'700'000'000));
  states.bans().remember_lifted(
      {.network = network, .since = now, .until = {}, .reason = "why", .user = "root"});
  ASSERT_TRUE(states.save());
  OperatorStates again(path_);
  ASSERT_TRUE(again.load());
  EXPECT_TRUE(again.bans().all().empty());
  ASSERT_EQ(again.bans().lifted().size(), 1u);
  EXPECT_EQ(again.bans().lifted().at(network).since, now);
  ASSERT_TRUE(
      again.bans().add({.network = network, .since = now, .until = {}, .reason = "", .user = ""}));
  EXPECT_TRUE(again.bans().lifted().empty());
}

TEST_F(OperatorStatesTest, no_file_is_no_error_and_no_folder_is_one_when_saving) {
  OperatorStates states(path_ + "/missing/file");
  EXPECT_FALSE(states.save());
  EXPECT_TRUE(OperatorStates(path_).load());
  EXPECT_TRUE(OperatorStates("").save());
}

TEST_F(OperatorStatesTest, of_a_broken_file_nothing_is_taken) {
  const std::string good = "mx/a\tdisabled\t1\troot\twhy\t-\t1\n";
  for (const std::string& text :
       {std::string("something else\n"), "poise-operator-states 2\n" + good,
        "poise-operator-states 1\n" + good + "mx/b\tdisabled\n",
        "poise-operator-states 1\n" + good + "mx/b\tgone\t1\tu\tr\t-\t1\n",
        "poise-operator-states 1\n" + good + "mx/b%4\tdisabled\t1\tu\tr\t-\t1\n",
        "poise-operator-states 1\n" + good + "mx/b\tdisabled\tx\tu\tr\t-\t1\n"}) {
    write(text);
    OperatorStates states(path_);
    EXPECT_FALSE(states.load()) << text;
    EXPECT_EQ(states.find("mx/a"), nullptr) << text;
  }
}

}  // namespace
}  // namespace poise::control
