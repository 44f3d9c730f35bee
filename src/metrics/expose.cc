#include "metrics/expose.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <limits>

#include "metrics/catalog.h"
#include "metrics/process.h"

namespace poise::metrics {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using Labels = std::vector<ClientMetric::Label>;

/// The close reason of sessions that the kernel forwarded.
constexpr std::string_view kEndedInKernel = "in_kernel";

constexpr std::array<std::string_view, 6> kStates{"checking", "up",       "recovering",
                                                  "down",     "draining", "disabled"};

prometheus::MetricType type_of(Type type) {
  switch (type) {
    case Type::counter:
      return prometheus::MetricType::Counter;
    case Type::gauge:
      return prometheus::MetricType::Gauge;
    case Type::histogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

class Families {
 public:
  Families() {
    for (std::size_t i = 0; i < families_.size(); ++i) {
      families_[i].name = kCatalog[i].name;
      families_[i].help = kCatalog[i].help;
      families_[i].type = type_of(kCatalog[i].type);
    }
  }

  void add(Metric metric, Labels labels, double value) {
    ClientMetric& series = next(metric, std::move(labels));
    series.counter.value = value;  // the serializer takes the one that its family's type says
    series.gauge.value = value;
  }
  void add(Metric metric, Labels labels, std::uint64_t value) {
    add(metric, std::move(labels), static_cast<double>(value));
  }

  void add(Metric metric, Labels labels, const DurationFacts& durations) {
    ClientMetric::Histogram& histogram = next(metric, std::move(labels)).histogram;
    std::uint64_t below = 0;
    for (std::size_t i = 0; i < durations.buckets.size(); ++i) {
      below += durations.buckets[i];
      const double bound =
          i < DurationHistogram::kBounds.size()
              ? std::chrono::duration<double>(DurationHistogram::kBounds[i]).count()
              : std::numeric_limits<double>::infinity();
      histogram.bucket.push_back({below, bound});
    }
    histogram.sample_count = below;
    histogram.sample_sum = durations.sum_seconds;
  }

  [[nodiscard]] std::string text() {
    std::erase_if(families_, [](const MetricFamily& family) { return family.metric.empty(); });
    return prometheus::TextSerializer().Serialize(families_);
  }

 private:
  ClientMetric& next(Metric metric, Labels labels) {
    ClientMetric& series = families_[static_cast<std::size_t>(metric)].metric.emplace_back();
    series.label = std::move(labels);
    return series;
  }

  std::vector<MetricFamily> families_{kCatalog.size()};
};

/// Of reasons only those that were ever seen.
void add_pairs(Families& out, const Facts& facts) {
  for (const auto& [key, pair] : facts.pairs) {
    const Labels labels{{"service", key.first}, {"backend", key.second}};
    const auto with = [&labels](const char* name, std::string_view value) {
      Labels all = labels;
      all.push_back({name, std::string(value)});
      return all;
    };
    for (std::size_t i = 0; i < pair.sessions.size(); ++i)
      if (pair.sessions[i] > 0)
        out.add(Metric::sessions_total, with("close_reason", kCloseReasonNames[i]),
                pair.sessions[i]);
    if (pair.ended_in_kernel > 0)
      out.add(Metric::sessions_total, with("close_reason", kEndedInKernel), pair.ended_in_kernel);
    out.add(Metric::sessions_active, labels, pair.active);
    out.add(Metric::bytes_total, with("direction", "to_client"), pair.to_client_bytes);
    out.add(Metric::bytes_total, with("direction", "to_backend"), pair.to_backend_bytes);
    for (std::size_t i = 0; i < pair.retries.size(); ++i)
      if (pair.retries[i] > 0)
        out.add(Metric::retries_total, with("reason", kTryOutcomeNames[i]), pair.retries[i]);
    for (std::size_t i = 0; i < pair.greetings.size(); ++i)
      if (pair.greetings[i] > 0)
        out.add(Metric::greetings_total, with("class", kGreetingClassNames[i]), pair.greetings[i]);
  }
}

void add_backends(Families& out, const Facts& facts) {
  for (const BackendFacts& each : facts.backends) {
    const Labels labels{{"pool", each.pool}, {"backend", each.backend}};
    out.add(Metric::backend_up, labels, each.up ? 1.0 : 0.0);
    out.add(Metric::backend_weight, labels, static_cast<double>(each.weight));
    for (const std::string_view state : kStates) {
      Labels all = labels;
      all.push_back({"state", std::string(state)});
      out.add(Metric::backend_state, std::move(all), each.state == state ? 1.0 : 0.0);
    }
    for (std::size_t i = 0; i < each.probes.size(); ++i)
      if (each.probes[i] > 0)
        out.add(Metric::probes_total,
                {{"pool", each.pool},
                 {"backend", each.backend},
                 {"outcome", std::string(kProbeOutcomeNames[i])}},
                each.probes[i]);
    if (each.certificate_not_after != 0)
      out.add(Metric::certificate_not_after, labels,
              static_cast<double>(each.certificate_not_after));
  }
}

void add_pools(Families& out, const Facts& facts) {
  for (const PoolFacts& each : facts.pools) {
    const Labels labels{{"pool", each.pool}};
    if (each.probe) {
      out.add(Metric::probe_duration, labels, *each.probe);
      out.add(Metric::probe_suspect, labels, each.probe_suspect ? 1.0 : 0.0);
      out.add(Metric::probe_login_refused, labels, each.probe_login_refused ? 1.0 : 0.0);
    }
    if (each.queue_length) {
      out.add(Metric::queue_length, labels, *each.queue_length);
      out.add(Metric::queue_wait, labels, each.queue_wait);
    }
    if (each.sticky_entries) out.add(Metric::sticky_entries, labels, *each.sticky_entries);
  }
  out.add(Metric::bans, {}, facts.bans);
}

void add_services(Families& out, const Facts& facts) {
  for (const ServiceFacts& each : facts.services) {
    const Labels labels{{"service", each.service}};
    for (std::size_t i = 0; i < each.refusals.size(); ++i)
      if (each.refusals[i] > 0)
        out.add(Metric::refusals_total,
                {{"service", each.service}, {"reason", std::string(kRefusalReasonNames[i])}},
                each.refusals[i]);
    out.add(Metric::early_talkers_total, labels, each.early_talkers);
    out.add(Metric::connect_duration, labels, each.connect);
    out.add(Metric::greeting_duration, labels, each.greeting);
    out.add(Metric::session_duration, labels, each.session);
  }
}

void add_pair(Families& out, const Facts& facts) {
  if (!facts.pair_in_sync) return;
  out.add(Metric::pair_in_sync, {}, *facts.pair_in_sync ? 1.0 : 0.0);
  for (const auto& [instance, now] : facts.vrrp)
    for (const std::string_view state : {"master", "backup", "fault", "unknown"})
      out.add(Metric::vrrp_state, {{"instance", instance}, {"state", std::string(state)}},
              state == now ? 1.0 : 0.0);
}

void add_process(Families& out, const Facts& facts) {
  out.add(Metric::config_reload_success_timestamp, {}, facts.reload_success_time);
  out.add(Metric::config_reload_successful, {}, facts.reload_good ? 1.0 : 0.0);
  if (facts.config_file_time) out.add(Metric::config_file_timestamp, {}, *facts.config_file_time);
  out.add(Metric::config_reloads_total, {{"result", "success"}}, facts.reloads);
  out.add(Metric::config_reloads_total, {{"result", "failure"}}, facts.reloads_failed);
  out.add(Metric::log_dropped_total, {}, facts.log_dropped);
  out.add(Metric::accept_paused_total, {}, facts.accept_paused);
  out.add(Metric::sessions_shed_total, {}, facts.sessions_shed);
  out.add(Metric::buffers_exhausted_total, {}, facts.buffers_ran_out);
  out.add(Metric::bulk_turns_total, {}, facts.bulk_turns);
  out.add(Metric::build_info, {{"version", facts.version}}, 1.0);
  out.add(Metric::start_time, {}, facts.start_time);
  for (const auto& [limit, used] : facts.limits)
    out.add(Metric::limit_used_ratio, {{"limit", limit}}, used);
  const Process process = look_at_process();
  out.add(Metric::process_cpu, {}, process.cpu_seconds);
  out.add(Metric::process_resident, {}, process.resident_bytes);
  out.add(Metric::process_virtual, {}, process.virtual_bytes);
  out.add(Metric::process_open_fds, {}, process.open_fds);
  out.add(Metric::process_max_fds, {}, process.max_fds);
  out.add(Metric::process_threads, {}, process.threads);
  out.add(Metric::process_start_time, {}, facts.start_time);
}

}  // namespace

void DurationFacts::add(const DurationHistogram& from) {
  for (std::size_t i = 0; i < buckets.size(); ++i) buckets[i] += from.bucket(i);
  sum_seconds += std::chrono::duration<double>(from.sum()).count();
}

std::string expose(const Facts& facts) {
  Families families;
  add_pairs(families, facts);
  add_backends(families, facts);
  add_pools(families, facts);
  add_services(families, facts);
  add_pair(families, facts);
  add_process(families, facts);
  return families.text();
}

}  // namespace poise::metrics
