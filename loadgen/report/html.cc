#include "loadgen/report/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <vector>

namespace poise::loadgen {
namespace {

constexpr double kWidth = 860;
constexpr double kHeight = 200;
constexpr double kLeft = 70;
constexpr double kBottom = 24;
constexpr std::size_t kPointsMax = 600;  ///< of a plot; more seconds are gathered

std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    if (c == '<')
      safe += "&lt;";
    else if (c == '>')
      safe += "&gt;";
    else if (c == '&')
      safe += "&amp;";
    else
      safe += c;
  }
  return safe;
}

struct Line {
  std::string name;
  std::string colour;
  std::vector<double> values;
};

/// 1, 2, 4 or 8 times a power of ten, at least `value`: its quarters are short numbers.
double round_up(double value) {
  double power = 1e-9;
  while (true) {
    for (const double step : {1.0, 2.0, 4.0, 8.0}) {
      if (step * power >= value) return step * power;
    }
    power *= 10;
  }
}

/// Lines over time, one value each `step` seconds.
std::string plot(const std::string& title, const std::vector<Line>& lines, std::size_t step,
                 const std::function<std::string(double)>& label) {
  double most = 0;
  std::size_t points = 0;
  for (const Line& line : lines) {
    for (const double value : line.values) most = std::max(most, value);
    points = std::max(points, line.values.size());
  }
  if (most == 0) return fmt::format("<h2>{}</h2>\n<p>Nothing.</p>\n", title);
  const double top = round_up(most);
  const auto x = [&](std::size_t at) {
    return kLeft + (kWidth - kLeft - 10) * static_cast<double>(at) /
                       static_cast<double>(std::max<std::size_t>(points, 2) - 1);
  };
  const auto y = [&](double value) { return 10 + (kHeight - kBottom - 10) * (1 - value / top); };
  std::string svg = fmt::format("<h2>{}</h2>\n<p>", title);
  for (const Line& line : lines)
    svg +=
        fmt::format("<span style=\"color:{}\">&#9632;</span> {} &nbsp; ", line.colour, line.name);
  svg += fmt::format("</p>\n<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n", kWidth,
                     kHeight, title);
  for (int tick = 0; tick <= 4; ++tick) {
    const double value = top * tick / 4;
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n",
        kLeft, kWidth - 10, y(value), y(value), kLeft - 6, y(value) + 4, label(value));
  }
  for (std::size_t tick = 0; tick <= 4; ++tick) {
    const std::size_t at = (std::max<std::size_t>(points, 2) - 1) * tick / 4;
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{} s</text>\n", x(at),
                       kHeight - 6, tick < 4 ? "middle" : "end", (at + 1) * step);
  }
  for (const Line& line : lines) {
    std::string path;
    for (std::size_t at = 0; at < line.values.size(); ++at)
      path += fmt::format("{:.1f},{:.1f} ", x(at), y(line.values[at]));
    if (line.values.size() == 1) path += fmt::format("{:.1f},{:.1f}", x(1), y(line.values[0]));
    svg +=
        fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\" points=\"{}\"/>\n",
                    line.colour, path);
  }
  return svg + "</svg>\n";
}

std::string plots(const Tally& tally) {
  const std::size_t seconds_total = tally.intervals.size();
  if (seconds_total == 0) return "<p>It was over before the first second.</p>\n";
  const std::size_t step = (seconds_total + kPointsMax - 1) / kPointsMax;
  Line ok{"sessions that went well", "#2b7a3d", {}};
  Line submits{"submits", "#2456a6", {}};
  Line failed{"sessions given up", "#b3261e", {}};
  Line errors{"connection errors", "#d98200", {}};
  Line p50{"p50", "#2456a6", {}};
  Line p99{"p99", "#b3261e", {}};
  for (std::size_t at = 0; at < seconds_total; at += step) {
    Interval sum;
    const std::size_t end = std::min(at + step, seconds_total);
    for (std::size_t second = at; second < end; ++second) {
      const Interval& one = tally.intervals[second];
      sum.ok += one.ok;
      sum.failed += one.failed;
      sum.submits += one.submits;
      sum.connection_errors += one.connection_errors;
      sum.p50 = std::max(sum.p50, one.p50);
      sum.p99 = std::max(sum.p99, one.p99);
    }
    const auto span = static_cast<double>(end - at);
    ok.values.push_back(static_cast<double>(sum.ok) / span);
    submits.values.push_back(static_cast<double>(sum.submits) / span);
    failed.values.push_back(static_cast<double>(sum.failed) / span);
    errors.values.push_back(static_cast<double>(sum.connection_errors) / span);
    p50.values.push_back(seconds(sum.p50));
    p99.values.push_back(seconds(sum.p99));
  }
  const auto number = [](double value) { return fmt::format("{:g}", value); };
  const auto time = [](double value) { return value > 0 ? duration_text(nanos(value)) : "0"; };
  return plot("Rate, a second", {ok, submits}, step, number) +
         plot("What went wrong, a second", {failed, errors}, step, number) +
         plot("Time of a session that went well", {p50, p99}, step, time);
}

/// Bars on a common scale: p50 dark, up to p99 light.
std::string command_bars(const Tally& tally) {
  Nanos most = 1;
  for (const BlockTally& block : tally.blocks) {
    for (const CommandTally& command : block.commands)
      most = std::max(most, command.answered.percentile(99));
  }
  std::string rows;
  for (const BlockTally& block : tally.blocks) {
    for (std::size_t at = 0; at < block.commands.size(); ++at) {
      const Histogram& histogram = block.commands[at].answered;
      if (histogram.count() == 0) continue;
      const auto percent = [&](double p) {
        return 100.0 * seconds(histogram.percentile(p)) / seconds(most);
      };
      rows += fmt::format(
          "<tr><td>{}.{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"bar\">"
          "<div class=\"p99\" style=\"width:{:.1f}%\"></div>"
          "<div class=\"p50\" style=\"width:{:.1f}%\"></div></td></tr>\n",
          escaped(block.name), kCommandNames[at], histogram.count(),
          duration_text(histogram.percentile(50)), duration_text(histogram.percentile(99)),
          duration_text(histogram.max()), percent(99), percent(50));
    }
  }
  return "<h2>Time of a command</h2>\n<table><tr><th>command</th><th>count</th><th>p50</th>"
         "<th>p99</th><th>max</th><th class=\"bar\">p50 dark, p99 light</th></tr>\n" +
         rows + "</table>\n";
}

}  // namespace

std::string report_html(const RunResult& result) {
  const Tally& tally = result.tally;
  std::string page =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width\">\n<title>poise-load</title>\n"
      "<style>\n"
      "body{font:15px/1.45 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;"
      "color:#1c1c1c}\n"
      "h1{font-size:1.4em}h2{font-size:1.1em;margin:1.6em 0 .2em}p{margin:.2em 0}\n"
      ".key{display:inline-block;margin-right:3em}.key b{display:block;font-size:2em}\n"
      "svg{width:100%;height:auto}svg text{font-size:11px;fill:#555}.grid{stroke:#ddd}\n"
      "table{border-collapse:collapse;width:100%}td,th{text-align:right;padding:.15em .6em;"
      "white-space:nowrap}\n"
      "td:first-child,th:first-child{text-align:left}.bar{width:40%;position:relative;"
      "text-align:left}\n"
      ".p50,.p99{position:absolute;top:.35em;height:.8em;min-width:1px}.p50{background:#2456a6}"
      ".p99{background:#b9cdea}\n"
      "pre{background:#f5f5f5;padding:1em;overflow-x:auto;font-size:12px}\n"
      "</style></head><body>\n";
  page += fmt::format("<h1>poise-load: {} &middot; run {}</h1>\n", escaped(result.title),
                      escaped(result.run_id));
  page += fmt::format(
      "<div><div class=\"key\"><b>{:.1f}</b>{}/s</div><div class=\"key\"><b>{:.2f} %</b>connection "
      "errors</div><div class=\"key\"><b>{:.0f} %</b>of the generator's ceiling</div></div>\n",
      result.submits_mail() ? result.per_second(tally.submits) : result.per_second(tally.fetches),
      result.submits_mail() ? "submits" : "fetches", result.connection_error_percent(),
      result.busy_percent());
  page += plots(tally);
  page += command_bars(tally);
  page += "<h2>In full</h2>\n<pre>" + escaped(report_text(result)) + "</pre>\n</body></html>\n";
  return page;
}

}  // namespace poise::loadgen
