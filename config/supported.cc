#include "config/supported.h"

#include <array>

namespace poise::config {
namespace {

struct Line {
  Feature feature;
  bool supported;
};

constexpr std::array kLines{
    Line{Feature::admin_socket, true},  Line{Feature::admin_http, true},
    Line{Feature::log_journal, true},   Line{Feature::log_syslog, true},
    Line{Feature::log_json, true},      Line{Feature::ipvs, true},
    Line{Feature::accept_proxy, true},  Line{Feature::greeting, true},
    Line{Feature::early_talk, true},    Line{Feature::refusal, true},
    Line{Feature::access_lists, true},  Line{Feature::limits, true},
    Line{Feature::sticky, true},        Line{Feature::queue, true},
    Line{Feature::when_all_down, true}, Line{Feature::on_down, true},
    Line{Feature::send_proxy, true},    Line{Feature::source_address, true},
    Line{Feature::transparent, true},   Line{Feature::slow_start, true},
    Line{Feature::connect_rate, true},  Line{Feature::passive, true},
    Line{Feature::probe, true},         Line{Feature::probe_deep, true},
    Line{Feature::backend_names, true},
};
static_assert(kLines.size() + 1 == static_cast<std::size_t>(Feature::count), "one line a feature");

}  // namespace

const Features& supported() {
  static const Features features = [] {
    Features on;
    for (const Line& line : kLines) on.set(line.feature, line.supported);
    return on;
  }();
  return features;
}

}  // namespace poise::config
