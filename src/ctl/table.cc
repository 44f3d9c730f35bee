#include "ctl/table.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

namespace poise::ctl {

Screen Screen::of_stdout() {
  Screen screen;
  if (::isatty(STDOUT_FILENO) == 0) return screen;
  winsize size{};
  screen.columns =
      ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  const char* const term = std::getenv("TERM");
  const char* const no_colour = std::getenv("NO_COLOR");  // no-color.org
  screen.colour = term != nullptr && std::string_view(term) != "dumb" &&
                  (no_colour == nullptr || *no_colour == '\0');
  return screen;
}

std::string painted(std::string_view text, Colour colour, const Screen& screen) {
  if (!screen.colour || colour == Colour::none || text.empty()) return std::string(text);
  constexpr std::array<std::string_view, 5> kCodes{"", "32", "33", "31", "2"};
  return fmt::format("\x1b[{}m{}\x1b[0m", kCodes[static_cast<std::size_t>(colour)], text);
}

std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char each) {
    return (static_cast<unsigned char>(each) & 0xc0u) != 0x80;
  }));
}

std::string short_bytes(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes);
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  constexpr std::string_view kUnits = "KMGTP";
  for (value /= 1024; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return fmt::format("{:.1f}{}", value, kUnits[unit]);
}

std::string Table::text(const Screen& screen) const {
  constexpr std::size_t kGap = 2;
  std::vector<std::size_t> widths;
  for (std::size_t column = 0; column < columns_.size(); ++column) {
    std::size_t width = width_of(columns_[column].title);
    for (const auto& row : rows_) width = std::max(width, width_of(row[column].text));
    widths.push_back(width);
  }
  std::vector<bool> shown(columns_.size(), true);
  std::vector<std::string> left_out;
  const auto total = [&] {
    std::size_t sum = 0;
    for (std::size_t column = 0; column < columns_.size(); ++column)
      if (shown[column]) sum += widths[column] + kGap;
    return sum - std::min(sum, kGap);
  };
  while (screen.columns > 0 && total() > screen.columns) {
    std::size_t least = columns_.size();
    for (std::size_t column = 1; column < columns_.size(); ++column)
      if (shown[column] &&
          (least == columns_.size() || columns_[column].keep < columns_[least].keep))
        least = column;
    if (least == columns_.size()) break;  // the first always stays
    shown[least] = false;
    left_out.push_back(columns_[least].title);
  }

  std::string out;
  const auto line = [&](const auto& cell_of, bool title) {
    std::string text;
    std::size_t pending = 0;
    for (std::size_t column = 0; column < columns_.size(); ++column) {
      if (!shown[column]) continue;
      const Cell cell = cell_of(column);
      const std::size_t space = widths[column] - width_of(cell.text);
      text.append(pending + (columns_[column].right ? space : 0), ' ');
      text += painted(cell.text, title ? Colour::soft : cell.colour, screen);
      pending = kGap + (columns_[column].right ? 0 : space);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  line([this](std::size_t column) { return Cell(columns_[column].title); }, true);
  for (const auto& row : rows_) line([&row](std::size_t column) { return row[column]; }, false);
  if (!left_out.empty())
    out += painted(fmt::format("(left out for want of width: {}; --json has all)",
                               fmt::join(left_out, ", ")),
                   Colour::soft, screen) +
           "\n";
  return out;
}

}  // namespace poise::ctl
