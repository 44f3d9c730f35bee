#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace poise::loadgen {

/// The message ids seen so far, exactly (no hashes that could collide into a false duplicate). Ids
/// of our own form
/// `<run>-<number>` cost about a bit each; any other text costs itself. Bounded: beyond kMaxBytes
/// new ids are `untracked`.
class IdSet {
 public:
  static constexpr std::size_t kMaxBytes = std::size_t{1} << 30;

  enum class Added : std::uint8_t { first, again, untracked };
  Added add(std::string_view id);
  [[nodiscard]] bool contains(std::string_view id) const;
  [[nodiscard]] std::uint64_t size() const { return size_; }

 private:
  static constexpr unsigned kBlockBits = 12;
  using Block = std::array<std::uint64_t, (1u << kBlockBits) / 64>;

  struct Numbered {
    std::string_view run;
    std::uint64_t number;
  };
  static bool parse(std::string_view id, Numbered& numbered);
  Added add_text(std::string_view id);

  struct TextHash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::unordered_map<std::string, std::uint32_t, TextHash, std::equal_to<>> runs_;
  std::unordered_map<std::uint64_t, Block> blocks_;  ///< by run << 32 | number >> kBlockBits
  std::unordered_set<std::string, TextHash, std::equal_to<>> texts_;
  std::size_t bytes_ = 0;
  std::uint64_t size_ = 0;
};

}  // namespace poise::loadgen
