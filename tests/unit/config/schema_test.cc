// schema.json says what the loader does: same keys, words and defaults; it accepts what loads and
// refuses what it can see is wrong.
#include "config/schema.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <functional>
#include <regex>
#include <set>

#include "bad_configs.h"
#include "config/keys.h"
#include "config/load.h"
#include "config/print.h"

namespace poise::config {
namespace {

Json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return Json::parse(file, nullptr, true, true);
}

const Json& schema() {
  static const Json value = read_json(POISE_SOURCE_DIR "/config/schema.json");
  return value;
}

/// As much of draft 7 as the schema uses; anything else in it is a failure, so that nothing goes
/// unjudged.
bool accepts(const Json& rule, const Json& value) {
  for (const auto& [word, want] : rule.items()) {
    bool good = true;
    if (word == "type") {
      good = want == "object"    ? value.is_object()
             : want == "array"   ? value.is_array()
             : want == "string"  ? value.is_string()
             : want == "boolean" ? value.is_boolean()
             : want == "integer" ? value.is_number_integer()
                                 : want == "number" && value.is_number();
    } else if (word == "properties") {
      for (const auto& [key, inner] : want.items())
        good = good && (!value.is_object() || !value.contains(key) || accepts(inner, value[key]));
    } else if (word == "additionalProperties") {
      const Json named = rule.value("properties", Json::object());
      for (const auto& [key, member] : value.items())
        good = good && (!value.is_object() || named.contains(key) ||
                        (want.is_object() && accepts(want, member)));
    } else if (word == "required") {
      for (const Json& key : want)
        good = good && (!value.is_object() || value.contains(key.get<std::string>()));
    } else if (word == "items") {
      for (const Json& item : value) good = good && (!value.is_array() || accepts(want, item));
    } else if (word == "minItems")
      good = !value.is_array() || value.size() >= want.get<std::size_t>();
    else if (word == "maxItems")
      good = !value.is_array() || value.size() <= want.get<std::size_t>();
    else if (word == "minimum")
      good = !value.is_number() || value.get<double>() >= want.get<double>();
    else if (word == "maximum")
      good = !value.is_number() || value.get<double>() <= want.get<double>();
    else if (word == "pattern")
      good = !value.is_string() ||
             std::regex_search(value.get<std::string>(), std::regex(want.get<std::string>()));
    else if (word == "const")
      good = value == want;
    else if (word == "enum")
      good = std::find(want.begin(), want.end(), value) != want.end();
    else if (word == "$ref")
      good = accepts(schema().at(Json::json_pointer(want.get<std::string>().substr(1))), value);
    else if (word == "allOf") {
      for (const Json& one : want) good = good && accepts(one, value);
    } else if (word == "anyOf") {
      good = false;
      for (const Json& one : want) good = good || accepts(one, value);
    } else if (word != "description" && word != "default" && word != "$schema" && word != "title" &&
               word != "definitions") {
      ADD_FAILURE() << "the test does not know the keyword " << word;
    }
    if (!good) return false;
  }
  return true;
}

TEST(Schema, is_what_the_key_tables_say) {
  std::ifstream file(POISE_SOURCE_DIR "/config/schema.json");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (std::getenv("POISE_WRITE_SCHEMA") != nullptr)
    std::ofstream(POISE_SOURCE_DIR "/config/schema.json") << json_schema();
  EXPECT_EQ(text, json_schema()) << "run this test with POISE_WRITE_SCHEMA=1 to write it anew";
}

// Independent of how the file was made: keys, words and defaults of every table against the file.
TEST(Schema, has_the_keys_words_and_defaults_of_every_table) {
  std::size_t keys = 0;
  std::set<std::string> seen;
  const std::function<void(const std::vector<const KeyInfo*>&, const Json&)> compare =
      [&](const std::vector<const KeyInfo*>& table, const Json& object) {
        EXPECT_EQ(object["properties"].size(), table.size());
        for (const KeyInfo* info : table) {
          SCOPED_TRACE(info->name);
          ++keys;
          ASSERT_TRUE(object["properties"].contains(info->name));
          const Json& property = object["properties"][info->name];
          EXPECT_FALSE(info->doc.empty());
          EXPECT_EQ(property["description"].get<std::string>().rfind(info->doc, 0), 0u);
          if (!info->words.empty()) {
            // Of a key that also takes a list, the single word comes first.
            const Json& word = property.contains("anyOf") ? property["anyOf"][0] : property;
            EXPECT_EQ(word["enum"], Json(info->words));
          }
          const Json required = object.value("required", Json::array());
          EXPECT_EQ(std::find(required.begin(), required.end(), Json(info->name)) != required.end(),
                    info->required);
          if (property.contains("default")) {
            EXPECT_TRUE(accepts(property, property["default"])) << property.dump();
            EXPECT_EQ(property["default"], info->initial(Protocol::smtp));
          }
          if (info->nested && seen.insert(info->definition).second) {
            compare(info->nested(), schema()["definitions"][info->definition]);
          }
        }
      };
  compare(infos(config_keys()), schema());
  EXPECT_GT(keys, 100u);
  EXPECT_EQ(seen.size(), schema()["definitions"].size());
}

TEST(Schema, accepts_the_examples_and_what_is_printed) {
  for (const auto& entry :
       std::filesystem::directory_iterator(POISE_SOURCE_DIR "/config/examples")) {
    if (entry.path().extension() != ".json") continue;
    SCOPED_TRACE(entry.path().filename());
    EXPECT_TRUE(accepts(schema(), read_json(entry.path())));
    const LoadResult result = load_file(entry.path());
    ASSERT_TRUE(result.config);
    EXPECT_TRUE(accepts(schema(), Json::parse(print_config(*result.config))));
  }
}

// An editor marks nothing that loads. (The other way round a schema can't see everything.)
TEST(Schema, accepts_whatever_only_earns_warnings) {
  std::size_t refused = 0;
  for (const BadConfig& bad : bad_configs()) {
    const Json value = Json::parse(bad.text.begin(), bad.text.end(), nullptr, false, true);
    if (value.is_discarded()) continue;
    SCOPED_TRACE(bad.name);
    const bool loads = bad.lines.at(0).rfind("warning: ", 0) == 0;
    const bool accepted = accepts(schema(), value);
    if (loads) {
      EXPECT_TRUE(accepted);
    }
    refused += accepted ? 0u : 1u;
  }
  EXPECT_GT(refused, 60u);
}

}  // namespace
}  // namespace poise::config
