#include "loadgen/ledger/id_set.h"

#include "poise/number.h"

namespace poise::loadgen {
namespace {

constexpr std::size_t kNodeBytes = 64;  // what a hash table's node costs beside its content
constexpr std::size_t kMaxRuns = 4096;

}  // namespace

bool IdSet::parse(std::string_view id, Numbered& numbered) {
  const std::size_t dash = id.rfind('-');
  if (dash == std::string_view::npos || dash == 0 || dash > 64) return false;
  const std::string_view digits = id.substr(dash + 1);
  if (digits.empty() || (digits[0] == '0' && digits.size() > 1))
    return false;  // "7" and "07" are two ids
  const auto number = poise::parse_number<std::uint64_t>(digits);
  if (!number || *number >> (32 + kBlockBits) != 0) return false;
  numbered.number = *number;
  numbered.run = id.substr(0, dash);
  return true;
}

IdSet::Added IdSet::add_text(std::string_view id) {
  if (texts_.contains(id)) return Added::again;
  if (bytes_ > kMaxBytes) return Added::untracked;
  texts_.emplace(id);
  bytes_ += id.size() + kNodeBytes;
  ++size_;
  return Added::first;
}

IdSet::Added IdSet::add(std::string_view id) {
  Numbered numbered;
  if (!parse(id, numbered)) return add_text(id);
  auto run = runs_.find(numbered.run);
  if (run == runs_.end()) {
    if (runs_.size() >= kMaxRuns) return add_text(id);
    run = runs_.emplace(numbered.run, static_cast<std::uint32_t>(runs_.size())).first;
  }
  const std::uint64_t key = std::uint64_t{run->second} << 32 | numbered.number >> kBlockBits;
  auto block = blocks_.find(key);
  if (block == blocks_.end()) {
    if (bytes_ > kMaxBytes) return Added::untracked;
    block = blocks_.emplace(key, Block{}).first;
    bytes_ += sizeof(Block) + kNodeBytes;
  }
  const std::uint64_t at = numbered.number & ((1u << kBlockBits) - 1);
  std::uint64_t& word = block->second[at / 64];
  const std::uint64_t bit = std::uint64_t{1} << (at % 64);
  if (word & bit) return Added::again;
  word |= bit;
  ++size_;
  return Added::first;
}

bool IdSet::contains(std::string_view id) const {
  Numbered numbered;
  if (parse(id, numbered)) {
    const auto run = runs_.find(numbered.run);
    if (run != runs_.end()) {
      const auto block =
          blocks_.find(std::uint64_t{run->second} << 32 | numbered.number >> kBlockBits);
      if (block == blocks_.end()) return false;
      const std::uint64_t at = numbered.number & ((1u << kBlockBits) - 1);
      return (block->second[at / 64] >> (at % 64) & 1) != 0;
    }
  }
  return texts_.contains(id);
}

}  // namespace poise::loadgen
