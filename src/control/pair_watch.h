#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control/events.h"
#include "control/health_watch.h"
#include "control/loop.h"
#include "control/operator_states.h"
#include "control/views.h"
#include "control/worker_threads.h"
#include "control/world.h"
#include "log/log.h"
#include "pair/driver.h"
#include "poise/config.h"
#include "poise/result.h"

namespace poise::control {

/// Control's end of the pair: says whether this box may have the addresses, knows who has them,
/// tells the other box what changes here and takes over what changes there. Does nothing where no
/// pair is configured. Control thread only.
class PairWatch {
 public:
  /// What it works on; all of it outlives it.
  struct Ground {
    const config::Config& config;
    World& world;
    WorkerThreads& workers;
    Loop& loop;
    log::Log& log;
    Events& events;
    OperatorStates& states;
    HealthWatch& health;
    std::function<void()> publish;
    /// The peer's decisions, which may be older than what is true here.
    std::function<void(const pair::Decision&)> decide;
    std::function<void(const pair::BanChange&)> ban;
    /// A request of the peer's; the answer is called once.
    std::function<void(const pair::Request&, std::function<void(bool good, std::string text)>)>
        request;
    /// What was asked by then and is not answered never will be.
    std::function<void()> link_lost;
    /// role() is another one now.
    std::function<void()> role_changed;
  };
  explicit PairWatch(Ground ground) : ground_(std::move(ground)) {}
  ~PairWatch();

  /// With the configuration's pair, if there is one. `guard`: see pair::Guard; null: none.
  Result<void> start(const pair::Guard* guard, const std::string& version);
  void stop();
  /// At the start and after a reload: `config_text` is the file that runs.
  void configure(const std::string& config_text);

  [[nodiscard]] bool on() const { return driver_ != nullptr; }

  /// Everything listens: the addresses may come.
  void ready();
  /// A reason for which they may not, until it is cleared.
  void set_fault(const std::string& kind, const std::string& why);
  void clear_fault(const std::string& kind);
  /// Gives the addresses away and calls `then` when they are gone, or have had the time to.
  void demote(const std::string& kind, const std::string& why, std::function<void()> then);
  /// As demote(), and is ready to have them again once the peer has them.
  void switch_over(const std::string& why, std::function<void(Result<void>)> answer);

  /// An operator decided about a backend, a service ("pool/name", "name"), or a network.
  void decided(const std::string& name) { pending_names_.insert(name); }
  void decided(const Network& network) { pending_bans_.insert(network); }

  /// Asks the peer; an error when it does not answer.
  void ask(std::string verb, std::string text, std::function<void(Result<std::string>)> answer);

  [[nodiscard]] std::optional<PairView> view() const;

  /// The virtual addresses that this box does not have now; ports 0.
  [[nodiscard]] std::set<Address> elsewhere() const;

  /// Of this box: that of all its instances.
  [[nodiscard]] pair::Role role() const { return pair::whole(roles_); }

 private:
  using Clock = Loop::Clock;
  using Asked = std::function<void(Result<std::string>)>;

  void on_event(pair::Event event);
  void on_link(bool joined, const std::string& trouble);
  void on_roles(std::vector<pair::VrrpWatch::Instance> roles);
  void on_ping(const pair::Ping& ping);
  void on_change(pair::Change change);
  void on_sticky(const pair::StickyBatch& batch);
  void on_verdict(const pair::Verdict& verdict);
  void hint_at_promotion();
  void end_hints(WallTime promoted, Clock::time_point deadline);
  void tick();
  void tell();
  bool tell_sticky();
  void look();
  void look_at_masters();
  void look_at_pools();
  void update_serves();
  void close_sessions_of(const std::string& instance, std::uint64_t turn);
  void await_gone(Clock::time_point deadline, std::function<void()> then);
  void await_peer(Clock::time_point deadline, std::function<void(Result<void>)> answer);
  [[nodiscard]] bool in_sync() const;
  [[nodiscard]] const config::Pair& pair() const { return *ground_.config.pair; }
  void record(const std::string& kind, const std::string& object, const std::string& what);
  void record_link(config::LogLevel level, const std::string& what);

  /// Log::limited()'s numbers.
  static constexpr std::size_t kLogPair = 59, kLogLink = 57;

  Ground ground_;
  std::unique_ptr<pair::Driver> driver_;
  std::uint64_t config_digest_ = 0;
  bool ready_ = false;
  std::map<std::string, std::string> faults_;  ///< by kind: why
  std::vector<pair::VrrpWatch::Instance> roles_;
  std::map<std::string, std::uint64_t> turns_;  ///< by instance: how often it became master

  // the link
  bool joined_ = false;
  std::string trouble_ = "not connected yet";
  Clock::time_point link_since_{};
  std::string peer_program_;
  std::uint16_t version_ = 0;
  std::optional<pair::Ping> peer_;
  std::int64_t skew_ms_ = 0;
  unsigned skewed_ = 0;  ///< pings in a row that say so
  Clock::time_point both_since_{}, blind_since_{}, moved_{};
  std::map<std::uint32_t, Asked> asked_;
  std::uint32_t last_id_ = 0;

  // what it has not been told yet
  std::set<std::string> pending_names_;
  std::set<Network> pending_bans_;
  std::map<std::uint32_t, bool> told_verdicts_;  ///< by BackendId
  struct Cursor {
    std::size_t pool = 0, shard = 0;
  };
  Cursor cursor_;
  std::vector<balance::StickyEntry> collected_;
  bool snapshot_due_ = false;
  std::uint64_t snapshot_number_ = 0;
  Clock::time_point caught_up_{};
  std::uint64_t sticky_told_ = 0, sticky_heard_ = 0;

  // what it has told us
  bool peer_snapshot_ = false;
  std::map<std::string, bool> peer_verdicts_;
};

}  // namespace poise::control
