#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace poise::config {

enum class Build {
  complete,  ///< every feature of the contract is supported
  bare,      ///< none of those that came later is
};

struct BadConfig {
  std::string name;
  Build build;
  std::string_view text;
  std::vector<std::string>
      lines;  ///< errors, then warnings (these with "warning: " before them), in the file's order
};

const std::vector<BadConfig>& bad_configs();

}  // namespace poise::config
