#pragma once

#include <cstdint>

namespace poise::loadgen {

/// splitmix64: small, and the same everywhere and always, which <random>'s distributions are not.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// 0 up to, not including, 1.
  double share() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  /// 0 up to, not including, `count`, which is small.
  std::uint64_t below(std::uint64_t count) { return next() % count; }

 private:
  std::uint64_t state_;
};

}  // namespace poise::loadgen
