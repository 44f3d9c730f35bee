#include "net/limits.h"

#include <sys/resource.h>

#include <algorithm>

namespace poise::net {

std::uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  if (limit.rlim_cur < limit.rlim_max) {
    const rlimit raised{.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
    if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  return limit.rlim_cur;
}

std::uint32_t sessions_for(std::uint64_t descriptors) {
  // A tiny limit (a test, a container) still serves: half of it, then.
  const std::uint64_t reserved = std::min<std::uint64_t>(kReservedDescriptors, descriptors / 2);
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>((descriptors - reserved) / 2, 1, 4'000'000));
}

}  // namespace poise::net
