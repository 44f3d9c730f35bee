#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace poise::config {

struct BadConfig {
  std::string name;
  std::string_view text;
  std::vector<std::string>
      lines;  ///< errors, then warnings (these with "warning: " before them), in the file's order
};

const std::vector<BadConfig>& bad_configs();

}  // namespace poise::config
