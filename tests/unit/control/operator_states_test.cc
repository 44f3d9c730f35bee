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

TEST_F(OperatorStatesTest, a_plain_state_is_forgotten) {
  OperatorStates states(path_);
  OperatorStates::State state;
  state.admin.admin = Admin::draining;
  states.set("mx/mx1", state);
  states.set("mx/mx1", {});
  EXPECT_EQ(states.find("mx/mx1"), nullptr);
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
