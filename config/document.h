#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// The JSON text as a tree in which every value and key knows where it stands. Comments (// and /*
/// */) are skipped.
namespace poise::config {

inline constexpr std::size_t kFileBytesMax = 16u << 20;
inline constexpr std::size_t kDepthMax = 16;        ///< the format itself needs 7
inline constexpr std::size_t kValuesMax = 1000000;  ///< bounds memory: a value costs some 150 bytes

struct Member;

struct Node {
  enum class Kind : std::uint8_t { null, boolean, integer, real, string, array, object };

  Kind kind = Kind::null;
  bool boolean = false;
  std::int64_t integer = 0;  ///< kind integer; what does not fit is `real`
  double real = 0;           ///< kinds integer and real
  std::size_t begin = 0;     ///< offset of the first byte
  std::string text;          ///< string: its value; numbers: as written
  std::vector<Node> items;
  std::vector<Member> members;  ///< in the file's order, duplicates included

  /// The first member of that name, or nullptr.
  [[nodiscard]] const Node* find(std::string_view key) const;

  /// What it is, for "expected X, got ...": `the number 12`, `a list`.
  [[nodiscard]] std::string describe() const;
};

struct Member {
  std::string key;
  std::size_t begin = 0;                   ///< offset of the key's opening quote
  std::optional<std::size_t> first_begin;  ///< set on a duplicate: where the key was given before
  Node value;
};

struct SyntaxError {
  std::size_t offset = 0;
  std::string message;
};

struct Document {
  Node root;
  std::optional<SyntaxError> error;  ///< the first one; `root` is then meaningless
};

/// Never throws for anything in `text`, only when memory runs out.
Document parse_document(std::string_view text);

/// Offset of the value at an RFC 6901 pointer made of plain keys and indices, or of the nearest
/// enclosing value that is in the file: what a defaulted key has for a place.
std::size_t locate(const Node& root, std::string_view pointer);

/// The value at `pointer` if the file has it.
const Node* find_at(const Node& root, std::string_view pointer);

/// `text` in double quotes, control characters escaped, cut after 80 bytes: safe in a line of a
/// message.
std::string quote(std::string_view text);

}  // namespace poise::config
