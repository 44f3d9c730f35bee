#include "config/print.h"

#include "config/keys.h"

namespace poise::config {

std::string print_config(const Config& config, const Features& features) {
  return print_members(Printer{features, config.pools}, config_keys(), config).dump(2) + "\n";
}

}  // namespace poise::config
