#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "config/difference.h"
#include "control/commands.h"
#include "control/machine.h"
#include "net/limits.h"

/// `poisectl doctor`: what about this machine and this process will hurt, before it does.
namespace poise::control {
namespace {

/// The first number of a file under /proc/sys; -1 when there is none.
long sysctl(const char* path, long* second = nullptr) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "re"), &std::fclose);
  long first = -1, other = -1;
  if (!file || std::fscanf(file.get(), "%ld %ld", &first, &other) < 1) return -1;
  if (second != nullptr) *second = other;
  return first;
}

}  // namespace

std::vector<Finding> Commands::doctor() const {
  std::vector<Finding> findings;
  const auto good = [&findings](std::string what) {
    findings.push_back({Verdict::ok, std::move(what), ""});
  };
  const auto bad = [&findings](std::string what, std::string advice) {
    findings.push_back({Verdict::warning, std::move(what), std::move(advice)});
  };

  const std::uint32_t usable = ground_.registries.sessions_max;
  std::uint64_t wanted = 0;
  for (const config::Service& service : ground_.config.services) wanted += service.limits.sessions;
  if (wanted > usable)
    bad(fmt::format("limits.sessions ask for {} sessions, descriptors allow {}", wanted, usable),
        fmt::format("set LimitNOFILE={}", wanted * 2 + net::kReservedDescriptors));
  else
    good(fmt::format("descriptors allow {} sessions, limits.sessions ask for {}", usable, wanted));

  if (sysctl("/proc/sys/net/ipv4/tcp_migrate_req") == 1)
    good("net.ipv4.tcp_migrate_req is 1: clients queued at a closing listener move on");
  else
    bad("net.ipv4.tcp_migrate_req is not 1: removing a listener can reset clients in its queue",
        "sysctl net.ipv4.tcp_migrate_req=1");

  const long backlog = sysctl("/proc/sys/net/core/somaxconn");
  if (backlog >= 4096)
    good(fmt::format("net.core.somaxconn is {}", backlog));
  else
    bad(fmt::format("net.core.somaxconn is {}: a burst of clients is dropped by the kernel",
                    backlog),
        "sysctl net.core.somaxconn=4096");

  long last_port = 0;
  const long first_port = sysctl("/proc/sys/net/ipv4/ip_local_port_range", &last_port);
  if (last_port - first_port >= 28000)
    good(fmt::format("{} local ports towards each backend", last_port - first_port + 1));
  else
    bad(fmt::format("only {} local ports towards each backend", last_port - first_port + 1),
        "sysctl net.ipv4.ip_local_port_range='10240 65535'");

  for (const std::string& each : missing_routes(ground_.config)) bad(each, "");
  add_ipvs(findings);

  const std::uint64_t dropped = ground_.log.dropped();
  if (dropped == 0)
    good("no log line was dropped");
  else
    bad(fmt::format("{} log lines were dropped", dropped),
        "the log's reader is too slow, or its disk is full");

  const config::LoadResult file = ground_.load();
  if (!file.config) {
    bad(fmt::format("{} would not start or reload: {}", ground_.config_path,
                    file.errors.front().text()),
        fmt::format("poised --check -c {} shows everything wrong with it", ground_.config_path));
  } else {
    config::Config next = *file.config;
    if (next.workers == 0) next.workers = ground_.config.workers;
    const std::size_t changes = config::differences(ground_.config, next).size();
    if (changes == 0)
      good(fmt::format("{} is what runs", ground_.config_path));
    else
      bad(fmt::format("{} has {} changes that do not run yet", ground_.config_path, changes),
          "poisectl reload --dry-run shows them");
  }

  const std::string& states = ground_.states.path();
  const std::string folder = states.substr(0, states.rfind('/'));
  if (!states.empty() && ::access(folder.c_str(), W_OK) == 0)
    good(fmt::format("operators' decisions are kept in {}", states));
  else
    bad("operators' decisions are forgotten at a restart",
        fmt::format("make {} a folder that poised can write to", folder));

  for (const std::string& each : status().problems) bad(each, "");
  return findings;
}

/// The services that are to be the kernel's.
void Commands::add_ipvs(std::vector<Finding>& findings) const {
  std::size_t carried = 0;
  for (const config::Service& service : ground_.config.services) {
    if (ground_.ipvs.carries(service)) {
      ++carried;
    } else if (in_kernel(service)) {
      findings.push_back({Verdict::warning,
                          fmt::format("service {} is proxied, though \"forwarding\" says {}",
                                      service.name, name_of(service.forwarding)),
                          ground_.ipvs.available()
                              ? "none of its servers is up, or the operator has closed it"
                              : "the log says why the kernel could not"});
    }
  }
  const std::vector<ipvs::Finding> lacking = ground_.ipvs.doctor();
  for (const ipvs::Finding& each : lacking)
    findings.push_back(
        {each.error && ground_.ipvs.available() ? Verdict::critical : Verdict::warning,
         "ip_vs: " + each.what, each.command});
  if (lacking.empty() && carried > 0)
    findings.push_back(
        {Verdict::ok, fmt::format("ip_vs has what its {} services need", carried), ""});
}

// ---- what a backend is met with now ----

void Commands::probe(const std::string& path, bool deep,
                     std::function<void(Result<ProbeView>)> answer) {
  const auto targets = find(path);
  if (!targets) return answer(targets.error());
  if (targets->backends.size() != 1)
    return answer(Error{"", path + " is not one backend: say pool/name"});
  const BackendStatus& status =
      std::as_const(ground_.world).backends().at(targets->backends.front());
  ProbeView view{.backend = status.path(), .address = status.address, .type = {}, .result = {}};
  Loop& loop = ground_.loop;
  health::Monitor& monitor = ground_.health.monitor();
  monitor.request_of(
      status.id, deep,
      [&loop, &monitor, view, answer](std::optional<health::ProbeRequest> request) mutable {
        if (!request)
          return loop.post([view, answer] {
            answer(Error{"", fmt::format("{} is not probed: its pool says \"probe\": \"off\", or "
                                         "its name has no address; poised --probe looks at any "
                                         "address",
                                         view.backend)});
          });
        view.type = request->type;
        monitor.probe(std::move(*request),
                      [&loop, view, answer](const health::ProbeResult& result) mutable {
                        view.result = result;
                        loop.post([view, answer] { answer(view); });
                      });
      });
}

/// One run of doctor_proxy(); control thread.
struct Commands::HeaderRound {
  std::vector<std::pair<BackendId, std::string>> backends;
  std::size_t begun = 0, left = 0;
  std::vector<HeadersView> views;
  std::function<void(Result<std::vector<HeadersView>>)> answer;
};

void Commands::doctor_proxy(const std::string& pool,
                            std::function<void(Result<std::vector<HeadersView>>)> answer) {
  const auto round = std::make_shared<HeaderRound>();
  std::vector<std::string> known;
  for (const BackendStatus& each : std::as_const(ground_.world).backends().all()) {
    if (!each.configured) continue;
    if (std::find(known.begin(), known.end(), each.pool_name) == known.end())
      known.push_back(each.pool_name);
    if (each.pool_name == pool) round->backends.emplace_back(each.id, each.path());
  }
  if (round->backends.empty()) return answer(unknown("pool", pool, known));
  round->left = round->backends.size();
  round->answer = std::move(answer);
  // So many backends are asked at once, each by all paths.
  constexpr std::size_t kAtOnce = 8;
  for (std::size_t i = 0; i < kAtOnce; ++i) next_headers(round);
}

void Commands::next_headers(const std::shared_ptr<HeaderRound>& round) {
  if (round->begun == round->backends.size()) return;
  const auto [id, path] = round->backends[round->begun++];
  Loop& loop = ground_.loop;
  health::Monitor& monitor = ground_.health.monitor();
  const auto done = [this, round](const HeadersView& view) {
    round->views.push_back(view);
    if (--round->left > 0) return next_headers(round);
    std::sort(round->views.begin(), round->views.end(),
              [](const auto& a, const auto& b) { return a.backend < b.backend; });
    round->answer(std::move(round->views));
  };
  monitor.request_of(
      id, false,
      [&loop, &monitor, path = path, done](const std::optional<health::ProbeRequest>& request) {
        auto view = std::make_shared<HeadersView>();
        view->backend = path;
        if (!request || request->type == config::ProbeType::tcp ||
            request->type == config::ProbeType::script) {
          view->verdict.sentence =
              "The doctor asks by the pool's probe, and that is off, or of a type that never "
              "answers.";
          return loop.post([done, view] { done(*view); });
        }
        view->paths = health::header_paths(*request);
        const auto left = std::make_shared<std::size_t>(view->paths.size());
        for (std::size_t i = 0; i < view->paths.size(); ++i)
          monitor.probe(view->paths[i].request,
                        [&loop, view, left, done, i](const health::ProbeResult& result) {
                          view->paths[i].result = result;
                          if (--*left > 0) return;
                          view->verdict = health::judge_headers(view->paths);
                          loop.post([done, view] { done(*view); });
                        });
      });
}

}  // namespace poise::control
