#include "net/privileges.h"

#include <cap-ng.h>
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace poise::net {

Result<void> become(const std::string& user, const Capabilities& keep) {
  const std::string where = fmt::format("user \"{}\"", user);
  errno = 0;
  const passwd* entry = ::getpwnam(user.c_str());
  if (entry == nullptr)
    return Error{
        where,
        errno == 0
            ? "no such user; create it with: adduser --system --group --no-create-home " + user
            : std::string(std::strerror(errno))};
  if (entry->pw_uid == ::geteuid()) return {};
  if (::geteuid() != 0)
    return Error{where, "only root can become another user; start as root, or drop \"user\""};
  if (::initgroups(entry->pw_name, entry->pw_gid) != 0)
    return Error{where, fmt::format("initgroups: {}", std::strerror(errno))};
  capng_clear(CAPNG_SELECT_BOTH);
  const auto allow = [](bool wanted, unsigned capability) {
    if (wanted)
      capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED),
                   capability);
  };
  allow(keep.bind_low_ports, CAP_NET_BIND_SERVICE);
  allow(keep.raw, CAP_NET_RAW);
  allow(keep.admin, CAP_NET_ADMIN);
  if (const int error = capng_change_id(static_cast<int>(entry->pw_uid),
                                        static_cast<int>(entry->pw_gid), CAPNG_NO_FLAG);
      error != 0)
    return Error{
        where,
        fmt::format("cannot become it and keep the capabilities needed (libcap-ng {})", error)};
  // A change of uid clears this; without it there is no core file to learn from.
  ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  return {};
}

bool may_administer_network() {
  return capng_get_caps_process() == 0 &&
         capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_ADMIN) == 1;
}

}  // namespace poise::net
