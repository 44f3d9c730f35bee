#include <fmt/format.h>

#include <memory>
#include <utility>

#include "config/difference.h"
#include "control/commands.h"
#include "control/machine.h"

/// Reload in place: the file is read and checked whole, what can fail is tried, and only then does
/// anything change.
namespace poise::control {

using config::LogLevel;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kPoll{10};
/// More errors than these are counted; poised --check shows them all.
constexpr std::size_t kErrorsLogged = 20;

/// What only a restart changes goes on as it is, and is said.
void keep_what_needs_a_restart(const config::Config& now, config::Config& next,
                               std::vector<std::string>& warnings) {
  const auto keep = [&warnings](const char* key, const auto& running, auto& asked) {
    if (running == asked) return;
    asked = running;
    warnings.push_back(fmt::format("{} changes only when poised is restarted", key));
  };
  if (next.workers == 0) next.workers = now.workers;  // "auto" has been decided
  keep("workers", now.workers, next.workers);
  keep("user", now.user, next.user);
  keep("admin", now.admin, next.admin);
  keep("log.target", now.log.target, next.log.target);
  keep("log.format", now.log.format, next.log.format);
  if (now.pair && next.pair) {
    keep("pair.key_file", now.pair->key_file, next.pair->key_file);
    keep("pair.nodes", now.pair->nodes, next.pair->nodes);
  } else {
    keep("pair", now.pair, next.pair);
  }
}

std::vector<std::string> texts(const std::vector<config::Problem>& problems) {
  std::vector<std::string> out;
  for (const config::Problem& each : problems) out.push_back(each.text());
  return out;
}

/// The backend of this pool and name; null when `config` has none.
const config::Backend* configured_as(const config::Config& config, const BackendStatus& status) {
  for (const config::Pool& pool : config.pools)
    for (const config::Backend& backend : pool.backends)
      if (pool.name == status.pool_name && backend.name == status.name) return &backend;
  return nullptr;
}

}  // namespace

void Commands::reload(bool dry_run, const By& by, std::function<void(ReloadView)> answer) {
  // Listeners of the reload before are still on their way out: their turn first.
  if (ground_.listeners.closing() && !ground_.stopping()) {
    ground_.loop.after(kPoll, [this, dry_run, by, answer = std::move(answer)]() mutable {
      reload(dry_run, by, std::move(answer));
    });
    return;
  }
  try_reload(ground_.config_path, dry_run, by, std::move(answer));
}

void Commands::try_reload(const std::string& path, bool dry_run, const By& by,
                          std::function<void(ReloadView)> answer) {
  if (!dry_run && !ground_.stopping()) {
    ground_.reloading(true);
    answer = [this, answer = std::move(answer)](ReloadView ended) {
      ground_.reloading(false);
      answer(std::move(ended));
    };
  }
  ReloadView view;
  std::vector<Listeners::Open> opened;
  config::LoadResult loaded =
      path == ground_.config_path ? ground_.load() : config::load_file(path);
  view.errors = texts(loaded.errors);
  view.warnings = texts(loaded.warnings);
  if (ground_.stopping()) view.errors = {"poised is stopping"};
  if (view.errors.empty() && loaded.config) {
    keep_what_needs_a_restart(ground_.config, *loaded.config, view.warnings);
    view.changes = config::differences(ground_.config, *loaded.config);
    if (auto able = check_machine(*loaded.config); !able)
      view.errors.push_back(able.error().text());
    if (auto able = ground_.ipvs.check(*loaded.config); !able)
      view.errors.push_back(able.error().text());
    for (std::string& each : missing_routes(*loaded.config))
      view.warnings.push_back(std::move(each));
    // A dry run opens new listeners too: whether that works is what it is asked.
    auto missing = ground_.listeners.open_missing(*loaded.config,
                                                  static_cast<unsigned>(ground_.workers.size()));
    if (missing)
      opened = std::move(*missing);
    else
      view.errors.push_back(missing.error().text());
  }
  if (!view.errors.empty()) {
    if (dry_run) return answer(std::move(view));
    return failed(std::move(view), by, answer);
  }
  const config::Config& next = *loaded.config;
  for (const BackendStatus& each : std::as_const(ground_.world).backends().all()) {
    const config::Backend* backend = configured_as(next, each);
    if (backend == nullptr || (backend->literal && backend->literal != each.address))
      view.running_on += sessions_of(each.id);
  }
  view.done = true;
  if (dry_run) return answer(std::move(view));
  if (auto adopted = ground_.adopt(std::move(*loaded.config)); !adopted) {
    view.done = false;
    view.errors.push_back(adopted.error().text());
    return failed(std::move(view), by, answer);
  }

  for (const std::string& each : view.warnings)
    ground_.log.message(LogLevel::warning, "reload: {}", each);
  for (const std::string& each : view.changes)
    ground_.log.message(LogLevel::info, "reload: {}", each);
  restore_services();
  ground_.log.set_level(ground_.config.log.level, ground_.config.log.session_start);
  drop_outdated_weights(by);
  ground_.rebuild();
  ground_.listeners.apply(ground_.config, std::move(opened), ground_.world, ground_.loop);
  ground_.pair.configure(config::file_text(ground_.config_path).value_or(""));
  ++reloads_;
  reload_error_.clear();
  reloaded_ = std::chrono::system_clock::now();
  record("reload", ground_.config_path,
         fmt::format("{} changes, {} sessions of what was removed go on until they end",
                     view.changes.size(), view.running_on),
         by);
  await_settled([answer = std::move(answer), view = std::move(view)] { answer(view); });
}

/// A weight set by hand gives way when the file has a new one for that backend.
void Commands::drop_outdated_weights(const By& by) {
  for (BackendStatus& each : ground_.world.backends().all()) {
    const OperatorStates::State* kept = ground_.states.find(each.path());
    if (kept == nullptr || !kept->weight || !each.weight_set) continue;
    const config::Backend* backend = configured_as(ground_.config, each);
    if (backend == nullptr || backend->weight == kept->weight_configured) continue;
    record("weight", each.path(),
           fmt::format("the file's new weight {} takes the place of the operator's {}",
                       backend->weight, *each.weight_set),
           by);
    each.weight_set.reset();
    each.weight_configured = backend->weight;
    remember(each.path(), &each);
    save();
  }
}

void Commands::failed(ReloadView view, const By& by,
                      const std::function<void(ReloadView)>& answer) {
  ++reloads_failed_;
  reload_error_ = view.errors.front();
  for (std::size_t i = 0; i < view.errors.size() && i < kErrorsLogged; ++i)
    ground_.log.message(LogLevel::error, "reload: {}", view.errors[i]);
  if (view.errors.size() > kErrorsLogged)
    ground_.log.message(LogLevel::error, "reload: and {} more; poised --check -c {} shows all",
                        view.errors.size() - kErrorsLogged, ground_.config_path);
  record("reload_failed", ground_.config_path,
         fmt::format("{} errors, nothing changed", view.errors.size()), by);
  answer(std::move(view));
}

void Commands::await_settled(std::function<void()> then) {
  if (ground_.workers.settled() && !ground_.listeners.closing()) return then();
  ground_.loop.after(kPoll,
                     [this, then = std::move(then)]() mutable { await_settled(std::move(then)); });
}

}  // namespace poise::control
