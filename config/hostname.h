#pragma once

#include <istream>
#include <string>

namespace poise::config {

/// The machine's fully qualified name as far as it is known without DNS, which may block: the
/// kernel's name, and if that has no dot, what /etc/hosts makes of it. "localhost" if the kernel
/// has none.
std::string machine_hostname();

/// The first name with a dot on a line of a hosts file that names `name`; `name` itself if there is
/// none.
std::string qualified(const std::string& name, std::istream& hosts);

}  // namespace poise::config
