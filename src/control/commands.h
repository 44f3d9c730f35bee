#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/load.h"
#include "control/drains.h"
#include "control/events.h"
#include "control/health_watch.h"
#include "control/history.h"
#include "control/ipvs_services.h"
#include "control/listeners.h"
#include "control/operator_states.h"
#include "control/pair_watch.h"
#include "control/views.h"
#include "control/worker_threads.h"
#include "control/world.h"
#include "log/log.h"
#include "metrics/facts.h"
#include "poise/config.h"
#include "poise/result.h"

namespace poise::control {

/// What an operator may do and ask: the control socket, the HTTP pages and signals speak to control
/// through this. Control thread only (Control::ask brings you there); answers that need workers
/// come by a function, later, in the control thread too. Never blocks.
class Commands {
 public:
  /// What the commands work on; all of it outlives them.
  struct Ground {
    const config::Config& config;
    const config::Config& resolved;  ///< the same with names as addresses
    World& world;
    proxy::Registries& registries;
    WorkerThreads& workers;
    Loop& loop;
    log::Log& log;
    Listeners& listeners;
    Events& events;
    Drains& drains;
    OperatorStates& states;
    HealthWatch& health;
    IpvsServices& ipvs;
    PairWatch& pair;
    std::string config_path;                   ///< its name in what is said
    std::function<config::LoadResult()> load;  ///< the configuration a reload takes
    std::string version;
    std::function<void()> publish;  ///< what is said of backends has changed
    std::function<void()> rebuild;  ///< the configuration has
    /// Makes a checked configuration the one that runs, or changes nothing.
    std::function<Result<void>(config::Config)> adopt;
    std::function<void(std::string cause)> shutdown;
    std::function<bool()> stopping;
    std::function<void(bool begins)> reloading;  ///< a reload begins, or has ended
  };
  explicit Commands(Ground ground);

  /// Who asks, for the record, and why.
  struct By {
    std::string user;
    std::string reason;
  };

  [[nodiscard]] const std::string& version() const { return ground_.version; }
  [[nodiscard]] const std::string& config_path() const { return ground_.config_path; }

  // --- looking
  [[nodiscard]] StatusView status() const;
  [[nodiscard]] std::vector<BackendView> backends() const;
  [[nodiscard]] std::vector<ServiceView> services() const;
  [[nodiscard]] HistoryView history() const;
  [[nodiscard]] std::string config_text() const;
  [[nodiscard]] std::vector<Event> events(std::chrono::seconds since) const;
  [[nodiscard]] Result<WhyView> why(const std::string& service, const std::string& address) const;
  [[nodiscard]] std::vector<Finding> doctor() const;
  /// The last sessions that were refused, or that more than one backend was tried for.
  [[nodiscard]] std::vector<log::RecentSession> refusals() const {
    return ground_.log.recent().refusals();
  }
  [[nodiscard]] std::vector<log::RecentSession> retries() const {
    return ground_.log.recent().retries();
  }
  [[nodiscard]] metrics::Facts facts() const;
  /// Of the pools that are sticky; of the filter `backend` and `source` count.
  [[nodiscard]] Result<StickyList> sticky(const SessionFilter& filter, std::size_t at_most) const;
  [[nodiscard]] std::vector<Ban> bans() const;
  void sessions(const SessionFilter& filter, std::size_t at_most,
                std::function<void(Result<SessionList>)> answer);

  // --- doing; each is remembered as an event
  using Said = Result<std::vector<std::string>>;  ///< a sentence for each thing changed

  /// `target`: pool/name, host/NAME (all backends there) or a service. `over`: their sessions are
  /// let go within that time, 0: they end by themselves.
  Said set_admin(const std::string& target, Admin admin, std::chrono::milliseconds over,
                 const By& by);
  /// None: the configured one again.
  Said set_weight(const std::string& backend, std::optional<unsigned> weight, const By& by);
  void kick(const SessionFilter& filter, const By& by,
            std::function<void(Result<std::uint64_t>)> answer);
  /// `answer` is called at once when it failed, else when all workers work with it.
  void reload(bool dry_run, const By& by, std::function<void(ReloadView)> answer);
  void shutdown(const By& by);

  /// Says what it is met with now; changes no health. `answer` comes after the probe.
  void probe(const std::string& backend, bool deep, std::function<void(Result<ProbeView>)> answer);
  /// Tries every PROXY header on each backend of the pool, some backends at a time.
  void doctor_proxy(const std::string& pool,
                    std::function<void(Result<std::vector<HeadersView>>)> answer);

  /// `lasts` 0: for ever. Sessions that are open go on.
  Said ban(const Network& network, std::chrono::milliseconds lasts, const By& by);
  Said unban(const Network& network, const By& by);

  // --- the pair; refused where there is none

  [[nodiscard]] Result<PairView> pair_status() const;
  /// What differs between the boxes' files and between the decisions they know.
  void pair_diff(std::function<void(Result<PairDifference>)> answer);
  /// Our file on both boxes, or, when either can't use it, on neither.
  void pair_push(const By& by, std::function<void(Said)> answer);
  /// Gives the addresses to the other box; a dry run only says what it would cost.
  void pair_switch(bool dry_run, const By& by, std::function<void(Said)> answer);
  /// What the other box asks and has decided.
  void peer_asks(const pair::Request& request,
                 std::function<void(bool good, std::string text)> answer);
  /// The link to it is lost: what it pushed and had not confirmed is taken back.
  void peer_lost();
  void apply(const pair::Decision& decision);
  void apply(const pair::BanChange& change);

  /// Before the configuration is read at start: a push that a crash left half done is taken back.
  /// What was done, in words; nothing: there was none.
  static std::string undo_unfinished_push(const std::string& config_path);

  /// At start, before the first snapshot: what a restart must not forget.
  void restore();
  /// After it: drains that a restart interrupted; and history() begins.
  void resume();

 private:
  struct Targets {
    std::vector<BackendId> backends;
    std::string service;  ///< empty: backends
  };
  [[nodiscard]] Result<Targets> find(const std::string& target) const;
  [[nodiscard]] Error unknown(const std::string& kind, const std::string& name,
                              const std::vector<std::string>& known) const;
  struct Matcher {
    std::uint64_t id = 0;
    ServiceId service;
    BackendId backend;
    std::optional<Network> source;
    [[nodiscard]] bool matches(const proxy::Session& session) const;
  };
  [[nodiscard]] Result<Matcher> matcher(const SessionFilter& filter) const;

  /// Counters summed over the workers, by id.
  struct Totals {
    std::vector<PairSums> services, backends;
    /// Of those the kernel carries something of, by id.
    std::map<std::uint32_t, Rates> service_rates, backend_rates;
  };
  [[nodiscard]] Totals totals() const;
  void keep_history();

  std::string set_backend(BackendId id, Admin admin, std::chrono::milliseconds over, const By& by,
                          WallTime when);
  std::string set_service(const std::string& name, Admin admin, std::chrono::milliseconds over,
                          const By& by, WallTime when);
  void begin_drain(BackendId id, std::chrono::milliseconds over);
  void begin_drain(const std::string& service, std::chrono::milliseconds over);
  void add_limits(metrics::Facts& facts) const;
  void add_pools(metrics::Facts& facts) const;
  void add_ipvs(std::vector<Finding>& findings) const;
  bool why_limits(const config::Service& service, const Address& client,
                  std::vector<std::string>& steps) const;
  BackendId why_sticky(const config::Pool& pool, const balance::PoolSpec& spec,
                       const Address& client, std::vector<std::string>& steps) const;
  void publish_bans();
  void await_ban_end();
  struct HeaderRound;
  void next_headers(const std::shared_ptr<HeaderRound>& round);
  /// `decided`: when; none: nobody decided anything anew.
  void remember(const std::string& name, const BackendStatus* backend,
                std::optional<WallTime> decided = {});
  void publish_later();
  [[nodiscard]] Result<void> pair_needed() const;
  void take_candidate(const std::string& text,
                      const std::function<void(bool, std::string)>& answer);
  void commit_candidate(const std::function<void(bool, std::string)>& answer);
  void keep_candidate(const std::function<void(bool, std::string)>& answer);
  void revert_candidate(const std::function<void(bool, std::string)>& answer);
  void save();
  void restore_services();
  void record(std::string kind, std::string object, std::string what, const By& by);
  void await_settled(std::function<void()> then);
  void try_reload(const std::string& path, bool dry_run, const By& by,
                  std::function<void(ReloadView)> answer);
  void drop_outdated_weights(const By& by);
  void failed(ReloadView view, const By& by, const std::function<void(ReloadView)>& answer);
  /// Open sessions, those in the kernel included.
  [[nodiscard]] std::uint32_t sessions_of(BackendId id) const;
  [[nodiscard]] std::uint32_t sessions_of(ServiceId id) const;

  /// Log::limited()'s number for a state file that can't be written.
  static constexpr std::size_t kLogStates = 60;
  static constexpr std::size_t kLogPeer = 58;

  Ground ground_;
  bool publish_due_ = false;  ///< what the peer decided
  bool pushing_ = false;      ///< our file is on its way to the peer
  enum class Pushed { nothing, trying, unconfirmed };
  Pushed pushed_ = Pushed::nothing;  ///< what the peer pushed: until it says that both use it
  bool unwanted_ = false;            ///< and is to be taken back once it was tried
  std::uint64_t ban_timer_ = 0;      ///< the last one set; earlier ones do nothing
  History service_history_, backend_history_;
  WallTime started_{}, reloaded_{};
  std::string reload_error_;
  std::uint64_t reloads_ = 0, reloads_failed_ = 0;
};

}  // namespace poise::control
