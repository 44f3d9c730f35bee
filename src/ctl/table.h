#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace poise::ctl {

/// How output looks: a person at a terminal gets colour and a page as wide as it is.
struct Screen {
  std::size_t columns = 0;  ///< 0: not a terminal, as wide as need be
  bool colour = false;

  static Screen of_stdout();
};

enum class Colour { none, good, doubtful, bad, soft };

[[nodiscard]] std::string painted(std::string_view text, Colour colour, const Screen& screen);

/// Characters that `text` (UTF-8) takes on a terminal, all of them taken to be one cell wide.
[[nodiscard]] std::size_t width_of(std::string_view text);

/// Bytes for people: "517", "12.3K", "4.0G".
[[nodiscard]] std::string short_bytes(std::uint64_t bytes);

/// Rows for people. Where they don't fit the screen, whole columns are left out, the least needed
/// first, and named below.
class Table {
 public:
  struct Column {
    std::string title;
    bool right = false;  ///< numbers
    int keep = 0;        ///< the lowest goes first
  };
  struct Cell {
    std::string text;
    Colour colour = Colour::none;
    Cell(std::string text_in, Colour colour_in = Colour::none)  // NOLINT: rows are written as lists
        : text(std::move(text_in)), colour(colour_in) {}
    Cell(const char* text_in) : text(text_in) {}  // NOLINT
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  [[nodiscard]] std::string text(const Screen& screen) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace poise::ctl
