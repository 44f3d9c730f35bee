// What a reload says it will change.
#include "config/difference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/load.h"

namespace poise::config {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Config loaded(const std::string& services, const std::string& backends) {
  LoadOptions options;
  options.hostname = "mail.example.org";
  const LoadResult result =
      load_text(R"({"services": [)" + services + R"(], "pools": [{"name": "mx", "backends": [)" +
                    backends + "]}]}",
                options);
  EXPECT_TRUE(result.config) << (result.errors.empty() ? "" : result.errors.front().text());
  return *result.config;
}

const std::string kSmtp =
    R"({"name": "smtp", "listen": ["127.0.0.1:2525"], "protocol": "smtp", "pool": "mx"})";
const std::string kA = R"({"name": "a", "address": "192.0.2.1:25"})";
const std::string kB = R"({"name": "b", "address": "192.0.2.2:25"})";

TEST(Differences, the_same_file_changes_nothing) {
  EXPECT_THAT(differences(loaded(kSmtp, kA), loaded(kSmtp, kA)), IsEmpty());
}

TEST(Differences, what_comes_goes_and_changes_is_named) {
  const Config before = loaded(kSmtp, kA + "," + kB);
  const Config after = loaded(
      R"({"name": "smtp", "listen": ["127.0.0.1:2525"], "protocol": "smtp", "pool": "mx",
          "timeouts": {"idle": "15m"}},
         {"name": "sub", "listen": ["127.0.0.1:2587"], "protocol": "submission", "pool": "mx"})",
      R"({"name": "b", "address": "192.0.2.2:25", "weight": 3},
         {"name": "c", "address": "192.0.2.3:25"})");
  EXPECT_THAT(differences(before, after),
              ElementsAre(R"(service smtp: timeouts.idle: "12m" -> "15m")",
                          R"(service sub is added (listen ["127.0.0.1:2587"]))",
                          "pool mx: backend a is removed (192.0.2.1:25)",
                          "pool mx: backend b: weight: 1 -> 3",
                          "pool mx: backend c is added (192.0.2.3:25)"));
}

TEST(Differences, another_order_is_a_change) {
  EXPECT_THAT(differences(loaded(kSmtp, kA + "," + kB), loaded(kSmtp, kB + "," + kA)),
              ElementsAre("pool mx: backends are in another order"));
}

}  // namespace
}  // namespace poise::config
