#pragma once

#include <string>

namespace poise::tls {

/// OpenSSL's oldest queued error in its words, and the queue emptied; "unknown error" when there is
/// none.
std::string last_error();

}  // namespace poise::tls
