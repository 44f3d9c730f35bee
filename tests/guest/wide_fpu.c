/* Preloaded into user-mode Linux 6.1. It keeps 2696 bytes of FPU state a process; on CPUs with more (AMX: 11008) the
 * host's PTRACE_SETREGSET wants all of it and answers EFAULT ("ptrace set fp regs failed, errno = 14"). The rest is
 * filled up with what the traced process has. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { kHeaderOffset = 512, kShortComponents = 0x3ff };

static unsigned char whole[65536] __attribute__((aligned(64)));

static long plain_ptrace(long request, long pid, void* address, void* data) {
  long peeked = 0;
  const int peeks = request >= PTRACE_PEEKTEXT && request <= PTRACE_PEEKUSER;
  const long done = syscall(SYS_ptrace, request, pid, address, peeks ? &peeked : data);
  if (done < 0 || !peeks) return done;
  errno = 0;
  return peeked;
}

long ptrace(enum __ptrace_request request, ...) {
  va_list arguments;
  va_start(arguments, request);
  const long pid = va_arg(arguments, int);
  void* address = va_arg(arguments, void*);
  void* data = va_arg(arguments, void*);
  va_end(arguments);
  const long done = plain_ptrace(request, pid, address, data);
  if (request != PTRACE_SETREGSET || (long)address != NT_X86_XSTATE || done >= 0 || errno != EFAULT)
    return done;

  const struct iovec* given = data;
  struct iovec padded = {whole, sizeof whole};
  if (plain_ptrace(PTRACE_GETREGSET, pid, address, &padded) < 0) return -1;
  if (padded.iov_len <= given->iov_len) {
    errno = EFAULT;
    return -1;
  }
  memcpy(whole, given->iov_base, given->iov_len);
  *(uint64_t*)(whole + kHeaderOffset) &= kShortComponents;
  return plain_ptrace(request, pid, address, &padded);
}
