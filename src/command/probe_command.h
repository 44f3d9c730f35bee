#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace poise {

/// The options of `poised --probe`, as written.
struct ProbeArguments {
  std::string address;  ///< empty: not a probe
  std::string type;
  std::string tls = "none";
  std::string sni;
  std::string ca_file;
  std::string rcpt;
  std::string login;
  std::string password_file;
  std::string timeout = "10s";
  std::string send_proxy = "off";
  std::string hostname;
  std::string source;
  std::vector<std::string> script;
  unsigned count = 1;
  bool verify = false;
  bool deep = false;
  bool allow_plain_login = false;
  bool json = false;
  bool relay_test = false;
  bool proxy_doctor = false;
};

void add_probe_options(CLI::App& app, ProbeArguments& arguments);

/// Runs the probe or the tests asked for in the foreground and prints what was seen. The exit code:
/// 0 good, 1 not good, 2 the arguments are wrong.
int run_probe_command(const ProbeArguments& arguments);

}  // namespace poise
