#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "pool_builder.h"

/// pick() runs once a session on every worker: it must not go to the allocator, whatever it meets.
namespace {

thread_local std::size_t allocations = 0;

void* counted(std::size_t size) {
  ++allocations;
  return std::malloc(size);
}

}  // namespace

// All forms that hand out or take memory without an alignment, so that they go together (the arrays
// call these).
void* operator new(std::size_t size) {
  if (void* memory = counted(size)) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return counted(size);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}

namespace poise::balance::test {
namespace {

TEST(pick, allocates_nothing) {
  for (const auto scheduler : kSchedulers) {
    PoolBuilder builder(scheduler);
    builder.spec.overflow = config::Overflow::next_tier;
    for (std::uint32_t i = 0; i < 30; ++i) {
      builder.add({.weight = 1 + i % 4, .max_sessions = 3, .tier = i / 10, .up = i % 7 != 0});
    }
    const std::size_t before_building = allocations;
    const GreetingPool pool = builder.build();
    EXPECT_GT(allocations, before_building) << "the count works";
    const BackendId tried[] = {BackendId{1}, BackendId{2}, BackendId{12}};
    const std::size_t before = allocations;
    unsigned full = 0;
    for (std::uint32_t i = 0; i < 200; ++i) {
      full += pool.pick(client(i, {tried, i % 4})).result == PickResult::full;
    }
    EXPECT_EQ(allocations, before) << name(scheduler);
    EXPECT_GT(full, 0u);
  }
}

}  // namespace
}  // namespace poise::balance::test
