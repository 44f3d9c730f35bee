#pragma once

#include <string>

#include "poise/config.h"

/// A configuration with a "pair" as keepalived's: the engine that moves the addresses.
namespace poise::config {

/// The files by which poised and keepalived talk, in the folder of the control socket.
struct VrrpFiles {
  std::string folder;  ///< /run/poise
  std::string track;   ///< poised writes it: 0 serves, 1 does not
  std::string fifo;    ///< keepalived writes it: a line for every change of state

  static VrrpFiles of(const Config& config);
};

/// keepalived.conf(5) for this box. `user`: who poised runs as; `poisectl`: the program's path.
std::string keepalived_config(const Config& config, const std::string& user,
                              const std::string& poisectl);

}  // namespace poise::config
