#pragma once

#include <memory>

#include "io/io.h"
#include "poise/result.h"

namespace poise::io {

struct UringOptions {
  unsigned submission_entries = 512;
  unsigned completion_entries = 4096;
  unsigned buffers = 256;  ///< a power of two; 64 gave storms of -ENOBUFS at 500 clients, 256 none
  unsigned buffer_bytes = 16384;
};

/// Io on io_uring: liburing 2.3's interface, kernel 6.1 or newer. Must be made, used and destroyed
/// by one thread (the ring is SINGLE_ISSUER); wake() excepted.
///
/// The shape, as measured (docs/performance.md): DEFER_TASKRUN always, multishot receives from one
/// small ring of shared buffers, sends batched with the next wait and silent when they succeed,
/// shutdown(2) and not its opcode.
///
/// Fails with a sentence that says what to change where io_uring is forbidden
/// (kernel.io_uring_disabled, seccomp), RLIMIT_MEMLOCK is too small, or the kernel is too old.
Result<std::unique_ptr<Io>> make_uring(const UringOptions& options);

}  // namespace poise::io
