#include "config/hostname.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <vector>

namespace poise::config {

std::string machine_hostname() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  std::ifstream hosts("/etc/hosts");
  return qualified(name.data(), hosts);
}

std::string qualified(const std::string& name, std::istream& hosts) {
  if (name.find('.') != std::string::npos) return name;
  for (std::string line; std::getline(hosts, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::string word;
    words >> word;  // the address
    std::vector<std::string> names;
    while (words >> word) names.push_back(word);
    if (std::find(names.begin(), names.end(), name) == names.end()) continue;
    const auto full = std::find_if(names.begin(), names.end(), [](const std::string& one) {
      return one.find('.') != std::string::npos;
    });
    if (full != names.end()) return *full;
  }
  return name;
}

}  // namespace poise::config
