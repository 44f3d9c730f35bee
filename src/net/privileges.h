#pragma once

#include <string>

#include "poise/result.h"

namespace poise::net {

/// What the process may still do after it has become another user.
struct Capabilities {
  bool bind_low_ports = false;  ///< CAP_NET_BIND_SERVICE: a reload must be able to bind port 25
  bool raw = false;             ///< CAP_NET_RAW: transparent proxying
  bool admin = false;           ///< CAP_NET_ADMIN: ip_vs
};

/// Becomes `user` (its groups too) and keeps just these capabilities. Before any thread and before
/// the first bind: a reuseport group must share one uid, and credentials are per thread in Linux.
/// Without root it succeeds only if `user` is who we are already.
Result<void> become(const std::string& user, const Capabilities& keep);

/// This thread has CAP_NET_ADMIN.
bool may_administer_network();

}  // namespace poise::net
