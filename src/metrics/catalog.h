#pragma once

#include <array>
#include <cstddef>
#include <string_view>

/// Every metric there is: its name, its type and what it says. The names are a contract.
namespace poise::metrics {

enum class Type { counter, gauge, histogram };

enum class Metric : std::size_t {
  sessions_total,
  sessions_active,
  bytes_total,
  backend_up,
  backend_state,
  backend_weight,
  retries_total,
  greetings_total,
  refusals_total,
  early_talkers_total,
  connect_duration,
  greeting_duration,
  session_duration,
  probes_total,
  probe_duration,
  probe_suspect,
  probe_login_refused,
  certificate_not_after,
  queue_length,
  queue_wait,
  sticky_entries,
  bans,
  limit_used_ratio,
  pair_in_sync,
  vrrp_state,
  config_reload_success_timestamp,
  config_reload_successful,
  config_file_timestamp,
  config_reloads_total,
  log_dropped_total,
  accept_paused_total,
  sessions_shed_total,
  buffers_exhausted_total,
  bulk_turns_total,
  build_info,
  start_time,
  process_cpu,
  process_resident,
  process_virtual,
  process_open_fds,
  process_max_fds,
  process_threads,
  process_start_time,
  count,
};

struct Entry {
  std::string_view name;
  Type type;
  std::string_view help;
};

inline constexpr std::array<Entry, static_cast<std::size_t>(Metric::count)> kCatalog{{
    {"poise_sessions_total", Type::counter, "Sessions that ended, refused ones among them"},
    {"poise_sessions_active", Type::gauge, "Sessions that are open"},
    {"poise_bytes_total", Type::counter, "Bytes received from clients and backends and relayed"},
    {"poise_backend_up", Type::gauge, "1: health allows new sessions"},
    {"poise_backend_state", Type::gauge, "The state a backend is in has the value 1"},
    {"poise_backend_weight", Type::gauge, "The weight in use"},
    {"poise_retries_total", Type::counter,
     "Tries at a backend that failed before the client saw it"},
    {"poise_greetings_total", Type::counter, "What servers greeted with, as the gate judged it"},
    {"poise_refusals_total", Type::counter, "Clients that were refused"},
    {"poise_early_talkers_total", Type::counter, "Clients that spoke before the greeting"},
    {"poise_connect_duration_seconds", Type::histogram,
     "Time to connect to the backend that served"},
    {"poise_greeting_duration_seconds", Type::histogram, "Time from connecting to the greeting"},
    {"poise_session_duration_seconds", Type::histogram, "Time from accept to close"},
    {"poise_probes_total", Type::counter, "Probes, by what they saw"},
    {"poise_probe_duration_seconds", Type::histogram, "Time from a probe's start to its verdict"},
    {"poise_probe_suspect", Type::gauge,
     "1: the deep probe fails on every backend of the pool, so it counts for none"},
    {"poise_probe_login_refused", Type::gauge,
     "1: servers of the pool refuse the deep probe's login"},
    {"poise_certificate_not_after_timestamp_seconds", Type::gauge,
     "When the certificate that the last probe saw ends"},
    {"poise_queue_length", Type::gauge, "Clients that wait for a place at a backend"},
    {"poise_queue_wait_seconds", Type::histogram,
     "Time that clients waited, those included that gave up or were refused"},
    {"poise_sticky_entries", Type::gauge, "Sources that are remembered"},
    {"poise_bans", Type::gauge, "Networks that are banned"},
    {"poise_limit_used_ratio", Type::gauge, "Used share of a limit"},
    {"poise_pair_in_sync", Type::gauge, "1: each box of the pair knows what the other does"},
    {"poise_vrrp_state", Type::gauge, "The state a VRRP instance is in has the value 1"},
    {"poise_config_reload_success_timestamp_seconds", Type::gauge,
     "When the configuration that runs was read"},
    {"poise_config_reload_successful", Type::gauge, "1: the last reload changed what it should"},
    {"poise_config_file_timestamp_seconds", Type::gauge,
     "When the configuration file was last changed"},
    {"poise_config_reloads_total", Type::counter, "Reloads asked for since the start"},
    {"poise_log_dropped_total", Type::counter, "Log lines that were never written"},
    {"poise_accept_paused_total", Type::counter,
     "Times a listener waited because descriptors or memory had run out"},
    {"poise_sessions_shed_total", Type::counter, "Clients closed at once for want of room"},
    {"poise_buffers_exhausted_total", Type::counter, "Receives that found no shared buffer"},
    {"poise_bulk_turns_total", Type::counter, "Directions turned to splice"},
    {"poise_build_info", Type::gauge, "The version that runs"},
    {"poise_start_time_seconds", Type::gauge, "When the process started"},
    {"process_cpu_seconds_total", Type::counter, "User and system time"},
    {"process_resident_memory_bytes", Type::gauge, "Resident memory"},
    {"process_virtual_memory_bytes", Type::gauge, "Virtual memory"},
    {"process_open_fds", Type::gauge, "Open descriptors"},
    {"process_max_fds", Type::gauge, "RLIMIT_NOFILE"},
    {"process_threads", Type::gauge, "Threads"},
    {"process_start_time_seconds", Type::gauge, "When the process started"},
}};

constexpr const Entry& entry(Metric metric) {
  return kCatalog[static_cast<std::size_t>(metric)];
}

}  // namespace poise::metrics
