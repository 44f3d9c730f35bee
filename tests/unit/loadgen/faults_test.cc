// --fault's little language.
#include "loadgen/server/faults.h"

#include <gtest/gtest.h>

namespace poise::loadgen {
namespace {

TEST(Faults, each_form) {
  Faults faults;
  for (const char* text : {"delay=300", "greet=450 4.3.2 a=b", "refuse", "reset", "close",
                           "silence", "reset-after-reply", "reset-after-quit", "trickle=10",
                           "die-after=5", "die-at=1.5", "capacity=50/s"}) {
    EXPECT_TRUE(add_fault(text, faults)) << text;
  }
  EXPECT_EQ(faults.delay, 300 * kMillisecond);
  EXPECT_EQ(faults.greet, "450 4.3.2 a=b");
  EXPECT_TRUE(faults.refuse && faults.reset && faults.close && faults.silence &&
              faults.reset_after_quit);
  EXPECT_EQ(faults.reset_after_replies, 1u);
  EXPECT_EQ(faults.trickle, 10u);
  EXPECT_EQ(faults.die_after, 5u);
  EXPECT_EQ(faults.die_at, 1500 * kMillisecond);
  EXPECT_EQ(faults.capacity, 50);
  ASSERT_TRUE(add_fault("reset-after-reply=0", faults));
  EXPECT_EQ(faults.reset_after_replies, 0u);
}

TEST(Faults, what_is_wrong_is_said) {
  struct Case {
    const char* text;
    const char* says;
  };
  for (const Case& c : {Case{"explode", "no such fault"},
                        {"delay", "NUMBER"},
                        {"delay=x", "NUMBER"},
                        {"delay=-1", "NUMBER"},
                        {"capacity=0", "NUMBER"},
                        {"refuse=1", "takes no value"},
                        {"greet=", "greet with what"},
                        {"greet=a\r\nb", "one line"},
                        {"reset-after-reply=x", "number"},
                        {"", "no such fault"}}) {
    Faults faults;
    const Result<void> added = add_fault(c.text, faults);
    ASSERT_FALSE(added) << c.text;
    EXPECT_NE(added.error().what.find(c.says), std::string::npos) << added.error().what;
  }
}

}  // namespace
}  // namespace poise::loadgen
