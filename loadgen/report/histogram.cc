#include "loadgen/report/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace poise::loadgen {

// Values below 2^kSubBits have a bucket each. From there on a value with its highest bit at
// position b has its bucket by the next kSubBits bits; such a doubling has 2^kSubBits buckets of
// width 2^(b - kSubBits).

std::size_t Histogram::bucket_of(std::uint64_t value) {
  value = std::min(value, kLargest);
  if (value >> kSubBits == 0) return value;
  const auto shift = static_cast<unsigned>(std::bit_width(value)) - kSubBits - 1;
  return (std::size_t{shift} << kSubBits) + (value >> shift);
}

std::uint64_t Histogram::last_in(std::size_t bucket) {
  if (bucket >> (kSubBits + 1) == 0) return bucket;
  const std::size_t shift = (bucket >> kSubBits) - 1;
  const std::uint64_t top = bucket - (shift << kSubBits);
  return ((top + 1) << shift) - 1;
}

void Histogram::add(Nanos value) {
  value = std::max<Nanos>(value, 0);
  if (buckets_.empty()) buckets_.resize(bucket_of(kLargest) + 1);
  ++buckets_[bucket_of(static_cast<std::uint64_t>(value))];
  ++count_;
  sum_ += static_cast<double>(value);
  max_ = std::max(max_, value);
}

void Histogram::merge(const Histogram& other) {
  if (buckets_.size() < other.buckets_.size()) buckets_.resize(other.buckets_.size());
  for (std::size_t at = 0; at < other.buckets_.size(); ++at) buckets_[at] += other.buckets_[at];
  count_ += other.count_;
  sum_ += other.sum_;
  max_ = std::max(max_, other.max_);
}

void Histogram::clear() {
  std::fill(buckets_.begin(), buckets_.end(), 0);
  count_ = 0;
  sum_ = 0;
  max_ = 0;
}

double Histogram::mean() const {
  return count_ == 0 ? 0 : sum_ / static_cast<double>(count_);
}

Nanos Histogram::percentile(double percent) const {
  if (count_ == 0) return 0;
  const auto wanted = std::max<std::uint64_t>(
      1, static_cast<std::uint64_t>(std::ceil(percent / 100 * static_cast<double>(count_))));
  std::uint64_t seen = 0;
  for (std::size_t at = 0; at < buckets_.size(); ++at) {
    seen += buckets_[at];
    if (seen >= wanted) {
      // The last bucket holds everything beyond its range too.
      if (at + 1 == buckets_.size()) return max_;
      return std::min(max_, static_cast<Nanos>(last_in(at)));
    }
  }
  return max_;
}

}  // namespace poise::loadgen
