#include "admin/json.h"

#include <fmt/chrono.h>

namespace poise::admin {

using control::Verdict;

namespace {

Json addresses(const std::vector<Address>& list) {
  Json out = Json::array();
  for (const Address& each : list) out.push_back(each.text());
  return out;
}

std::string_view name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::ok:
      return "ok";
    case Verdict::warning:
      return "warning";
    case Verdict::critical:
      return "critical";
  }
  return "critical";
}

double seconds(std::chrono::microseconds time) {
  return std::chrono::duration<double>(time).count();
}

std::string_view name_of(health::TranscriptLine::From from) {
  switch (from) {
    case health::TranscriptLine::From::us:
      return "us";
    case health::TranscriptLine::From::server:
      return "server";
    case health::TranscriptLine::From::note:
      break;
  }
  return "note";
}

Json certificate(const TlsFacts& facts) {
  return {{"protocol", facts.protocol},
          {"cipher", facts.cipher},
          {"subject", facts.subject},
          {"issuer", facts.issuer},
          {"names", facts.names},
          {"chain_length", facts.chain_length},
          {"not_before", facts.not_before},
          {"not_after", facts.not_after},
          {"fingerprint", facts.fingerprint},
          {"verified", facts.verified},
          {"verify_result", facts.verify_result}};
}

void add_result(Json& json, const health::ProbeResult& result) {
  Json transcript = Json::array();
  for (const health::TranscriptLine& line : result.transcript)
    transcript.push_back(
        {{"at_seconds", seconds(line.at)}, {"from", name_of(line.from)}, {"text", line.text}});
  json["good"] = result.good();
  json["outcome"] = poise::name_of(result.outcome);
  json["reply"] = result.words;
  json["step"] = result.step;
  json["duration_seconds"] = seconds(result.total);
  json["connect_seconds"] = seconds(result.connect);
  json["greeting_seconds"] = seconds(result.greeting);
  json["deep"] = result.deep;
  json["deep_step_failed"] = result.deep_step_failed;
  json["auth_failed"] = result.auth_failed;
  json["local_fault"] = result.local_fault;
  json["rcpt_code"] = result.rcpt_code;
  json["tls"] = result.tls ? certificate(*result.tls) : Json();
  json["transcript"] = std::move(transcript);
}

/// Of what the kernel carries; else null.
void add_rates(Json& json, const std::optional<control::Rates>& rates) {
  json["sessions_per_s"] = rates ? Json(rates->sessions) : Json();
  json["bytes_to_client_per_s"] = rates ? Json(rates->bytes_to_client) : Json();
  json["bytes_to_backend_per_s"] = rates ? Json(rates->bytes_to_backend) : Json();
}

}  // namespace

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json time_of(control::WallTime time) {
  if (time == control::WallTime{}) return nullptr;
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

Json to_json(const control::BackendView& view) {
  Json json{{"pool", view.pool},
            {"name", view.name},
            {"address", view.address.text()},
            {"state", view.state},
            {"admin", view.admin},
            {"weight", view.weight},
            {"sessions", view.sessions},
            {"sessions_total", view.sessions_total},
            {"reason", view.reason},
            {"host", view.host},
            {"user", view.user},
            {"since", time_of(view.since)},
            {"weight_configured", view.weight_configured},
            {"tier", view.tier},
            {"max_sessions", view.max_sessions},
            {"bytes_to_client", view.bytes_to_client},
            {"bytes_to_backend", view.bytes_to_backend},
            {"retries", view.retries}};
  json["closing_for"] = view.closing_for ? Json(view.closing_for->count()) : Json();
  add_rates(json, view.rates);
  return json;
}

Json to_json(const control::ServiceView& view) {
  Json json{{"name", view.name},
            {"protocol", view.protocol},
            {"forwarding", view.forwarding},
            {"listen", addresses(view.listen)},
            {"pool", view.pool},
            {"admin", view.admin},
            {"sessions", view.sessions},
            {"max_sessions", view.max_sessions},
            {"sessions_total", view.sessions_total},
            {"refusals", view.refusals},
            {"early_talkers", view.early_talkers},
            {"bytes_to_client", view.bytes_to_client},
            {"bytes_to_backend", view.bytes_to_backend},
            {"backends", view.backends},
            {"backends_up", view.backends_up},
            {"reason", view.reason},
            {"user", view.user}};
  add_rates(json, view.rates);
  return json;
}

Json to_json(const control::HistoryView& view) {
  const auto counts = [](const auto& list) {
    Json object = Json::object();
    for (const auto& [name, begun] : list) object[name] = begun;
    return object;
  };
  return {{"interval_seconds", view.interval.count()},
          {"services", counts(view.services)},
          {"backends", counts(view.backends)}};
}

Json to_json(const control::SessionList& list) {
  Json sessions = Json::array();
  for (const control::SessionView& each : list.sessions) {
    sessions.push_back({{"id", each.id},
                        {"client", each.client.text()},
                        {"service", each.service},
                        {"vip", each.vip.text()},
                        {"backend", each.backend},
                        {"state", poise::name_of(each.state)},
                        {"age", each.age.count()},
                        {"bytes_to_client", each.bytes_to_client},
                        {"bytes_to_backend", each.bytes_to_backend},
                        {"spoke_last", each.client_spoke_last ? "client" : "server"}});
  }
  return {{"matching", list.matching}, {"sessions", std::move(sessions)}};
}

Json to_json(const control::Event& event) {
  return {{"number", event.number}, {"time", time_of(event.time)}, {"kind", event.kind},
          {"object", event.object}, {"what", event.what},          {"reason", event.reason},
          {"user", event.user}};
}

Json to_json(const control::PairView& view) {
  Json instances = Json::object();
  for (const control::PairView::Instance& each : view.instances) instances[each.name] = each.role;
  return {{"node", view.node},
          {"role", view.role},
          {"instances", std::move(instances)},
          {"serves", view.serves},
          {"faults", view.faults},
          {"peer", view.peer},
          {"peer_address", view.peer_address.text()},
          {"peer_role", view.peer_role},
          {"peer_version", view.peer_program},
          {"linked", view.linked},
          {"trouble", view.trouble},
          {"since", view.since.count()},
          {"link_version", view.version},
          {"in_sync", view.in_sync},
          {"same_config", view.same_config},
          {"both_masters", view.both_masters},
          {"skew_seconds", view.skew_seconds},
          {"unacknowledged", view.unacknowledged},
          {"sticky_told", view.sticky_told},
          {"sticky_heard", view.sticky_heard}};
}

Json to_json(const control::PairDifference& difference) {
  return {{"config", difference.config}, {"state", difference.state}};
}

Json to_json(const control::StatusView& view) {
  return {{"verdict", name_of(view.verdict)},
          {"sentence", view.sentence},
          {"problems", view.problems},
          {"version", view.version},
          {"hostname", view.hostname},
          {"config", view.config_path},
          {"pid", view.pid},
          {"started", time_of(view.started)},
          {"reloaded", time_of(view.reloaded)},
          {"reloads", view.reloads},
          {"reloads_failed", view.reloads_failed},
          {"reload_error", view.reload_error},
          {"workers", view.workers},
          {"sessions", view.sessions},
          {"sessions_max", view.sessions_max},
          {"sessions_total", view.sessions_total},
          {"stopping", view.stopping},
          {"pair", view.pair ? to_json(*view.pair) : Json()}};
}

Json to_json(const control::WhyView& view) {
  return {{"service", view.service},
          {"client", view.client.ip_text()},
          {"backend", view.backend},
          {"steps", view.steps}};
}

Json to_json(const control::StickyList& list) {
  Json entries = Json::array();
  for (const control::StickyView& each : list.entries)
    entries.push_back({{"pool", each.pool},
                       {"source", fmt::format("{}/{}", each.source.ip_text(), each.prefix)},
                       {"backend", each.backend},
                       {"idle", each.idle.count()}});
  return {{"matching", list.matching}, {"entries", std::move(entries)}};
}

Json to_json(const control::Ban& ban) {
  return {{"network", ban.network.text()},
          {"since", time_of(ban.since)},
          {"until", ban.until ? time_of(*ban.until) : Json()},
          {"reason", ban.reason},
          {"user", ban.user}};
}

Json to_json(const control::ProbeView& view) {
  Json json{{"backend", view.backend},
            {"address", view.address.text()},
            {"type", config::name_of(view.type)}};
  add_result(json, view.result);
  return json;
}

Json to_json(const control::HeadersView& view) {
  Json paths = Json::array();
  for (const health::Path& each : view.paths) {
    Json path{{"path", each.name}};
    add_result(path, each.result);
    paths.push_back(std::move(path));
  }
  return {{"backend", view.backend},
          {"good", view.verdict.good},
          {"sentence", view.verdict.sentence},
          {"paths", std::move(paths)}};
}

Json to_json(const control::Finding& finding) {
  return {
      {"verdict", name_of(finding.verdict)}, {"what", finding.what}, {"advice", finding.advice}};
}

Json to_json(const log::RecentSession& session) {
  Json tries = Json::array();
  for (const log::RecentSession::Try& each : session.tries)
    tries.push_back({{"backend", each.backend}, {"outcome", each.outcome}, {"words", each.words}});
  const auto ended = std::chrono::duration_cast<std::chrono::system_clock::duration>(
      std::chrono::microseconds(session.ended_unix_us));
  return {{"time", time_of(control::WallTime(ended))},
          {"id", session.id},
          {"client", session.client.text()},
          {"service", session.service},
          {"backend", session.backend},
          {"reason", session.reason},
          {"total_seconds", session.total_seconds},
          {"tries", std::move(tries)}};
}

Json to_json(const control::ReloadView& view) {
  return {{"done", view.done},       {"errors", view.errors}, {"warnings", view.warnings},
          {"changes", view.changes}, {"cut", view.cut},       {"running_on", view.running_on}};
}

}  // namespace poise::admin
