#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

/// What is wrong with a file, and the collector that the reader and the checks write to.
namespace poise::config {

inline constexpr std::size_t kProblemsMax =
    200;  ///< of each kind; then one line says how many more there are

struct Problem {
  std::string file;
  std::size_t line = 0;    ///< from 1; 0: the file as a whole (it could not be read)
  std::size_t column = 0;  ///< from 1, in characters
  std::string pointer;     ///< RFC 6901; empty: the root
  std::string message;

  /// One line: `poise.json:12:18: /pools/0/name: ...`.
  [[nodiscard]] std::string text() const;
};

/// Turns offsets into lines and columns, keeps the order of the file, and stops storing at
/// kProblemsMax.
class Problems {
 public:
  /// `text` must outlive the collector.
  Problems(std::string_view text, std::string file);

  void error(std::size_t offset, std::string_view pointer, std::string message);
  void warn(std::size_t offset, std::string_view pointer, std::string message);

  /// Counts those that were not stored, too.
  [[nodiscard]] std::size_t error_count() const { return errors_.count; }
  [[nodiscard]] bool full() const { return errors_.found.size() == kProblemsMax; }
  [[nodiscard]] std::size_t line_of(std::size_t offset) const;

  [[nodiscard]] std::vector<Problem> errors() const { return finish(errors_, "errors"); }
  [[nodiscard]] std::vector<Problem> warnings() const { return finish(warnings_, "warnings"); }

 private:
  struct Found {
    std::size_t offset;
    std::string pointer;
    std::string message;
  };
  struct List {
    std::vector<Found> found;
    std::size_t count = 0;
  };

  static void add(List& list, std::size_t offset, std::string_view pointer, std::string message);
  [[nodiscard]] std::vector<Problem> finish(const List& list, const char* kind) const;

  std::string_view text_;
  std::string file_;
  std::vector<std::size_t> lines_;  ///< offset of each line's first byte
  List errors_;
  List warnings_;
};

}  // namespace poise::config
