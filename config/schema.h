#pragma once

#include <string>

namespace poise::config {

/// JSON Schema (draft-07) of the file format as the key tables have it: the text of schema.json.
std::string json_schema();

}  // namespace poise::config
