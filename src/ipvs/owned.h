#pragma once

#include <set>
#include <string>

#include "ipvs/table.h"
#include "poise/result.h"

/// Which services of the kernel's table are ours: a file that outlives us, so that after a crash
/// those that the configuration no longer names are taken away, and nobody else's are.
namespace poise::ipvs {

/// One service a line. A file that is not there is an empty set; lines that are no service are left
/// out.
[[nodiscard]] std::set<ServiceKey> read_owned(const std::string& path);

/// Written beside and renamed: the file is always whole.
Result<void> write_owned(const std::string& path, const std::set<ServiceKey>& services);

}  // namespace poise::ipvs
