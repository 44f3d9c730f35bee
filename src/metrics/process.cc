#include "metrics/process.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

namespace poise::metrics {
namespace {

std::uint64_t entries(const char* folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(folder), &::closedir);
  if (!directory) return 0;
  std::uint64_t count = 0;
  while (const dirent* entry = ::readdir(directory.get())) count += entry->d_name[0] != '.';
  return count;
}

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

}  // namespace

Process look_at_process() {
  Process process;
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) == 0)
    process.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) process.max_fds = limit.rlim_cur;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> statm(std::fopen("/proc/self/statm", "re"),
                                                              &std::fclose);
  unsigned long long size = 0, resident = 0;
  if (statm && std::fscanf(statm.get(), "%llu %llu", &size, &resident) == 2) {
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    process.virtual_bytes = size * page;
    process.resident_bytes = resident * page;
  }
  process.open_fds = entries("/proc/self/fd");
  process.threads = entries("/proc/self/task");
  return process;
}

}  // namespace poise::metrics
