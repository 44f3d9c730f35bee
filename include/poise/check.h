#pragma once

#include <cstdio>
#include <cstdlib>

namespace poise {

/// Ends the process after saying which of our own assumptions broke. Never for what a peer, the
/// network or an operator can cause.
[[noreturn]] inline void check_failed(const char* what, const char* file, int line) {
  std::fprintf(stderr, "poise: CHECK failed: %s at %s:%d\n", what, file, line);
  std::abort();
}

}  // namespace poise

/// An assumption only our own bug can break; stays on in release.
#define CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::poise::check_failed(#condition, __FILE__, __LINE__))
