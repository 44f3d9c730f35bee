// The short history behind the status page's charts: differences of totals, bounded.
#include "control/history.h"

#include <gmock/gmock.h>

namespace poise::control {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(History, counts_what_began_between_two_looks) {
  History history;
  history.add({10, 0});
  EXPECT_THAT(history.of(0), IsEmpty()) << "what was there before is in no interval";
  history.add({13, 0});
  history.add({13, 4});
  EXPECT_THAT(history.of(0), ElementsAre(3, 0));
  EXPECT_THAT(history.of(1), ElementsAre(0, 4));
}

TEST(History, an_id_that_came_later_begins_with_nothing) {
  History history;
  history.add({1});
  history.add({2});
  history.add({2, 500});
  history.add({2, 501});
  EXPECT_THAT(history.of(1), ElementsAre(0, 0, 1));
  EXPECT_THAT(history.of(7), ElementsAre(0, 0, 0));
}

TEST(History, a_total_that_goes_back_is_no_session) {
  History history;
  history.add({5});
  history.add({3});
  history.add({4});
  EXPECT_THAT(history.of(0), ElementsAre(0, 1));
}

TEST(History, keeps_the_last_ones_only) {
  History history;
  for (std::uint64_t i = 0; i <= History::kKept + 10; ++i) history.add({i * i});
  const auto counts = history.of(0);
  EXPECT_EQ(counts.size(), History::kKept);
  EXPECT_EQ(counts.back(), 2 * (History::kKept + 10) - 1);
}

}  // namespace
}  // namespace poise::control
