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

std::string Top::screen(const Json& status, const Json& services, const Json& backends,
                        double seconds, const Screen& screen) {
  std::string out = show_status(status, screen) + "\n";
  Table by_service({{"SERVICE", false, 100},
                    {"STATE", false, 90},
                    {"SESSIONS", true, 95},
                    {"NEW/S", true, 94},
                    {"TO CLIENTS/S", true, 50},
                    {"TO BACKENDS/S", true, 49},
                    {"REFUSED", true, 80},
                    {"NEW/S LATELY", false, 60}});
  for (const Json& each : services) {
    const std::string name = each.value("name", ""), key = "service " + name;
    const std::string admin = each.value("admin", "");
    const double fresh = rate(key, count(each, "sessions_total"), seconds);
    by_service.add({name,
                    {admin, colour_of_state(admin)},
                    std::to_string(count(each, "sessions")),
                    per_second(fresh),
                    bytes_per_second(rate(key + " <", count(each, "bytes_to_client"), seconds)),
                    bytes_per_second(rate(key + " >", count(each, "bytes_to_backend"), seconds)),
                    std::to_string(count(each, "refusals")),
                    sparkline(rates_[key])});
  }
  Table by_backend({{"BACKEND", false, 100},
                    {"STATE", false, 90},
                    {"SESSIONS", true, 95},
                    {"NEW/S", true, 94},
                    {"TO CLIENTS/S", true, 50},
                    {"TO BACKENDS/S", true, 49},
                    {"RETRIES", true, 80},
                    {"NEW/S LATELY", false, 60}});
  for (const Json& each : backends) {
    const std::string name = each.value("pool", "") + "/" + each.value("name", "");
    const std::string key = "backend " + name, state = each.value("state", "");
    const double fresh = rate(key, count(each, "sessions_total"), seconds);
    by_backend.add({name,
                    {state, colour_of_state(state)},
                    std::to_string(count(each, "sessions")),
                    per_second(fresh),
                    bytes_per_second(rate(key + " <", count(each, "bytes_to_client"), seconds)),
                    bytes_per_second(rate(key + " >", count(each, "bytes_to_backend"), seconds)),
                    std::to_string(count(each, "retries")),
                    sparkline(rates_[key])});
  }
  return out + by_service.text(screen) + "\n" + by_backend.text(screen);
}

std::string Top::line(const std::string& time, const Json& services, const Json& backends,
                      double seconds) {
  std::uint64_t total = 0, open = 0, failures = 0;
  for (const Json& each : services) {
    total += count(each, "sessions_total");
    open += count(each, "sessions");
    failures += count(each, "refusals");
  }
  for (const Json& each : backends) failures += count(each, "retries");
  const double fresh = rate("all", total, seconds), failed = rate("failed", failures, seconds);
  if (fresh < 0) return "";
  const double came = fresh * seconds, went_wrong = failed * seconds;
  const double scale = std::max(1.0, (came + went_wrong) / static_cast<double>(kBarMax));
  return fmt::format("{} {:8.1f}/s {:6} open {}{}\n", time, fresh, open,
                     std::string(static_cast<std::size_t>(came / scale + 0.5), '*'),
                     std::string(static_cast<std::size_t>(went_wrong / scale + 0.5), '-'));
}

}  // namespace poise::ctl
