#include "ctl/top.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "ctl/show.h"

namespace poise::ctl {
namespace {

constexpr std::size_t kSparks = 20;
constexpr std::size_t kBarMax = 60;

std::uint64_t count(const Json& object, const char* key) {
  return object.value(key, std::uint64_t{0});
}

/// Sessions that ended and those that are open.
std::uint64_t began(const Json& object) {
  return count(object, "sessions_total") + count(object, "sessions");
}

std::string per_second(double rate) {
  return rate < 0 ? "-" : fmt::format("{:.1f}", rate);
}

std::string bytes_per_second(double rate) {
  return rate < 0 ? "-" : short_bytes(static_cast<std::uint64_t>(rate));
}

}  // namespace

std::string sparkline(const std::deque<double>& values) {
  constexpr std::array<std::string_view, 8> kHeights{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const double top = values.empty() ? 0 : *std::max_element(values.begin(), values.end());
  std::string out;
  for (const double value : values)
    out += kHeights[top <= 0 ? 0 : static_cast<std::size_t>(value / top * 7 + 0.5)];
  return out;
}

double Top::rate(const std::string& key, std::uint64_t total, double seconds) {
  const auto [at, first] = totals_.try_emplace(key, total);
  if (first || seconds <= 0) return -1;
  const double rate =
      total >= at->second ? static_cast<double>(total - at->second) / seconds : 0;  // restarted
  at->second = total;
  auto& rates = rates_[key];
  rates.push_back(rate);
  if (rates.size() > kSparks) rates.pop_front();
  return rate;
}

/// One row, of a service or a backend. `trouble`: the key of what went wrong there.
std::vector<Table::Cell> Top::row(const Json& object, const std::string& name,
                                  const std::string& state, const char* trouble, double seconds) {
  const double fresh = rate(name, began(object), seconds);
  return {name,
          {state, colour_of_state(state)},
          std::to_string(count(object, "sessions")),
          per_second(fresh),
          bytes_per_second(rate(name + " <", count(object, "bytes_to_client"), seconds)),
          bytes_per_second(rate(name + " >", count(object, "bytes_to_backend"), seconds)),
          std::to_string(count(object, trouble)),
          sparkline(rates_[name])};
}

std::string Top::screen(const Json& status, const Json& services, const Json& backends,
                        double seconds, const Screen& screen) {
  const auto table = [](const char* what, const char* trouble) {
    return Table({{what, false, 100},
                  {"STATE", false, 90},
                  {"SESSIONS", true, 95},
                  {"NEW/S", true, 94},
                  {"TO CLIENTS/S", true, 50},
                  {"TO BACKENDS/S", true, 49},
                  {trouble, true, 80},
                  {"NEW/S LATELY", false, 60}});
  };
  Table by_service = table("SERVICE", "REFUSED"), by_backend = table("BACKEND", "RETRIES");
  for (const Json& each : services)
    by_service.add(row(each, each.value("name", ""), each.value("admin", ""), "refusals", seconds));
  for (const Json& each : backends)  // a slash, which no service has in its name
    by_backend.add(row(each, each.value("pool", "") + "/" + each.value("name", ""),
                       each.value("state", ""), "retries", seconds));
  return show_status(status, screen) + "\n" + by_service.text(screen) + "\n" +
         by_backend.text(screen);
}

std::string Top::line(const std::string& time, const Json& services, const Json& backends,
                      double seconds) {
  std::uint64_t total = 0, open = 0, failures = 0;
  for (const Json& each : services) {
    total += began(each);
    open += count(each, "sessions");
    failures += count(each, "refusals");
  }
  for (const Json& each : backends) failures += count(each, "retries");
  const double fresh = rate("all", total, seconds), failed = rate("failed", failures, seconds);
  if (fresh < 0) return "";
  const double came = fresh * seconds, went_wrong = failed * seconds;
  const double scale = std::max(1.0, (came + went_wrong) / static_cast<double>(kBarMax));
  const std::string bar = std::string(static_cast<std::size_t>(came / scale + 0.5), '*') +
                          std::string(static_cast<std::size_t>(went_wrong / scale + 0.5), '-');
  return fmt::format("{} {:8.1f}/s {:6} open{}{}\n", time, fresh, open, bar.empty() ? "" : " ",
                     bar);
}

}  // namespace poise::ctl
