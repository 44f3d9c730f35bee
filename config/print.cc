#include "config/print.h"

#include "config/keys.h"

namespace poise::config {

std::string print_config(const Config& config) {
  return print_members(Printer{config.pools}, config_keys(), config).dump(2) + "\n";
}

}  // namespace poise::config
