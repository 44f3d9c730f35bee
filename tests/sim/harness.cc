#include "harness.h"

#include <fmt/format.h>

#include <algorithm>

namespace poise::sim {

using std::chrono::milliseconds;

namespace {

constexpr int kListener = 3;

enum class Manner : std::uint8_t {
  half_closes,
  waits_for_end,
  closes_early,
  resets,
  stalls,
  finishes_and_closes,
  replies_and_resets
};

void require(bool condition, const std::string& what) {
  if (!condition) throw Violation(what);
}

class Run {
 public:
  explicit Run(const Scenario& scenario)
      : scenario_(scenario),
        io_(scenario.seed, io_settings(scenario)),
        tuning_(make_tuning(scenario)) {}

  void play() {
    build();
    worker_ = std::make_unique<proxy::Worker>(io_, registries_, counters_, tuning_, sessions_max_,
                                              scenario_.seed << 8, nullptr, nullptr);
    worker_->post(proxy::Publish{&snapshot_});
    worker_->post(proxy::Listen{{{.fd = kListener, .service = ServiceId{0}, .address = vip_}}});
    io_.on_connect = [this](const Address& to, Connection& connection) { answer(to, connection); };
    for (unsigned i = 0; i < scenario_.clients; ++i) {
      io_.add_client(kListener, make_life(true), window(), milliseconds(io_.random(30)));
    }
    const std::uint64_t stop_at = scenario_.stop_midway ? io_.random(60) : UINT64_MAX;
    bool stopped = false, going = true;
    for (std::uint64_t step = 0; going; ++step) {
      require(step < 50'000, "the worker does not come to rest");
      going = worker_->step();
      check_limits();
      if (!stopped &&
          (step >= stop_at || (io_.world_at_rest() && worker_->sessions() == 0 && step > 2))) {
        worker_->post(proxy::StopListening{});
        worker_->post(proxy::Stop{.at_once = scenario_.stop_midway});
        stopped = true;
      }
    }
    // Closes and resets that were queued last still have to happen.
    io_.submit();
    for (int i = 0; i < 1000; ++i) io_.wait(io_.now());
    check_end();
  }

 private:
  static SimIo::Settings io_settings(const Scenario& scenario) {
    SimIo::Settings settings;
    if (scenario.scarce) {
      settings.buffers = 2;
      settings.sockets_max = 4;
      settings.fail_pipes = scenario.seed % 2 == 0;
    }
    return settings;
  }

  static proxy::Tuning make_tuning(const Scenario& scenario) {
    proxy::Tuning tuning;
    tuning.held_bytes_max = 96;
    tuning.blocks_max = scenario.scarce ? 2 : 64;
    tuning.pipes_max = 2;
    tuning.bulk_after = 2;
    tuning.bulk_small_max = 2;
    tuning.park_after = milliseconds(40);
    tuning.reset_patience = milliseconds(5000);
    tuning.refusal_patience = milliseconds(50);
    return tuning;
  }

  std::size_t window() { return 16 + io_.random(240); }

  void build() {
    registries_.services.grow(1);
    registries_.backends.grow(scenario_.backends);
    registries_.backend_addresses.grow(scenario_.backends);
    registries_.pools.grow(1);
    registries_.sessions_max = sessions_max_ = scenario_.scarce ? 2 : 16;
    counters_.pairs.grow(scenario_.backends + 1);
    counters_.services.grow(1);
    balance::PoolSpec spec;
    spec.state = &registries_.pools[0];
    spec.scheduler =
        scenario_.seed % 3 == 0 ? config::Scheduler::least_conn : config::Scheduler::round_robin;
    for (std::uint32_t i = 0; i < scenario_.backends; ++i) {
      balance::Member member;
      member.id = BackendId{i};
      member.address = *Address::from_ip("127.0.0.3", static_cast<std::uint16_t>(2000 + i));
      member.max_sessions = io_.random(3) == 0 ? 1 : 0;
      member.state = &registries_.backends[i];
      maximum_.push_back(member.max_sessions);
      registries_.backend_addresses[i] = member.address;
      spec.members.push_back(member);
    }
    auto pool = std::make_shared<const balance::Pool>(std::move(spec));
    proxy::Service service;
    service.id = ServiceId{0};
    service.protocol = io_.random(2) == 0 ? Protocol::smtp : Protocol::tcp;
    service.timeouts = {.connect = milliseconds(30),
                        .idle = milliseconds(1500),
                        .owed = milliseconds(2000),
                        .half_closed = milliseconds(1000)};
    service.keepalive = milliseconds(1000);
    service.pool = pool.get();
    service.pair_none = 0;
    for (std::uint32_t i = 0; i < scenario_.backends; ++i) service.pairs.push_back(i + 1);
    snapshot_.version = 1;
    snapshot_.services.push_back(std::move(service));
    snapshot_.pools.push_back(std::move(pool));
  }

  Script make_life(bool client) {
    using Kind = Step::Kind;
    Script script;
    script.reads_max = 1 + io_.random(100);
    std::vector<Step>& steps = script.steps;
    const unsigned rounds = io_.random(4);
    for (unsigned i = 0; i < rounds; ++i) {
      // Long enough now and then to fill buffers, turn to splice, park.
      const std::uint32_t amount = io_.random(4) == 0 ? 200 + io_.random(1200) : io_.random(60);
      if (amount > 0) steps.push_back({Kind::send, amount});
      if (io_.random(3) == 0) steps.push_back({Kind::pause, io_.random(120)});
      if (io_.random(4) == 0) steps.push_back({Kind::await_bytes, io_.random(40)});
    }
    auto manner = static_cast<Manner>(io_.random(7));
    if (manner == Manner::stalls && !scenario_.stalled_readers) manner = Manner::half_closes;
    switch (manner) {
      case Manner::half_closes:
        steps.insert(steps.end(), {{Kind::finish, 0}, {Kind::await_end, 0}, {Kind::close, 0}});
        break;
      case Manner::waits_for_end:
        steps.insert(steps.end(), {{Kind::await_end, 0}, {Kind::close, 0}});
        break;
      case Manner::closes_early:
        steps.push_back({Kind::close, 0});
        break;
      case Manner::finishes_and_closes:
        steps.insert(steps.end(),
                     {{Kind::finish, 0}, {Kind::pause, io_.random(20)}, {Kind::close, 0}});
        break;
      case Manner::resets:
        steps.push_back({Kind::reset, 0});
        break;
      case Manner::stalls:
        script.reads_max = 0;
        break;
      case Manner::replies_and_resets:
        if (client) {
          manner = Manner::waits_for_end;
          steps.insert(steps.end(), {{Kind::await_end, 0}, {Kind::close, 0}});
        } else {
          steps.insert(
              steps.end(),
              {{Kind::send, 1 + io_.random(200)}, {Kind::await_acked, 0}, {Kind::reset, 0}});
        }
        break;
    }
    script.label = static_cast<std::uint8_t>(manner);
    return script;
  }

  void answer(const Address& to, Connection& connection) {
    require(to.port >= 2000 && to.port < 2000 + scenario_.backends,
            "connect() to an address that is no backend's");
    connection.script = make_life(false);
    connection.window = window();
    if (scenario_.failing_connects && io_.random(3) == 0)
      connection.answer = static_cast<ConnectAnswer>(1 + io_.random(3));
  }

  void check_limits() {
    for (std::uint32_t i = 0; i < scenario_.backends; ++i)
      require(maximum_[i] == 0 || registries_.backends[i].sessions.load() <= maximum_[i],
              "max_sessions is exceeded");
    require(registries_.sessions.load() <= sessions_max_,
            "more sessions than the process may have");
  }

  const Connection* by_stream(const std::vector<std::uint8_t>& received, bool client) {
    if (received.size() < 2) return nullptr;
    const std::uint32_t number = received[0] | static_cast<std::uint32_t>(received[1]) << 8;
    for (const Connection& each : io_.connections())
      if (each.number == number && each.client == client) return &each;
    throw Violation("bytes arrived that no peer of the other kind has sent");
  }

  static Manner manner_of(const Connection& connection) {
    return static_cast<Manner>(connection.script.label);
  }
  static bool reads(Manner manner) {
    return manner == Manner::half_closes || manner == Manner::waits_for_end;
  }

  void check_end() {
    Reached& so_far = reached();
    ++so_far.runs;
    const proxy::Core& core = worker_->core();
    require(worker_->sessions() == 0, "a slot is not free");
    require(registries_.sessions.load() == 0, "a place of the process leaked");
    require(registries_.services[0].sessions.load() == 0, "a place of the service leaked");
    for (std::uint32_t i = 0; i < scenario_.backends; ++i)
      require(registries_.backends[i].sessions.load() == 0, "a place of a backend leaked");
    require(core.blocks.used() == 0, "a block leaked");
    require(core.pipes.lent() == 0, "a pipe leaked");
    require(core.tries.lent() == 0, "a record of tries leaked");
    require(io_.buffers_out() == 0, "a receive buffer leaked");
    require(io_.descriptors_open() == 0, "a descriptor leaked");
    for (const proxy::Session& session : worker_->slots())
      require(session.state() == proxy::State::free, "a session is not free");
    std::uint64_t started = 0, ended = 0;
    for (std::uint32_t pair = 0; pair <= scenario_.backends; ++pair) {
      started += counters_.pairs[pair].sessions_started.get();
      for (std::size_t reason = 0; reason < kCloseReasonNames.size(); ++reason) {
        const std::uint64_t count = counters_.pairs[pair].sessions_ended[reason].get();
        ended += count;
        so_far.by_reason[reason] += count;
        const auto why = static_cast<CloseReason>(reason);
        if (why == CloseReason::idle_timeout || why == CloseReason::owed_timeout ||
            why == CloseReason::half_closed_timeout)
          timed_out_ = timed_out_ || count > 0;
      }
      for (const Counter& counter : counters_.pairs[pair].tries_failed)
        so_far.retried += counter.get();
    }
    const std::uint64_t shed = counters_.worker.sessions_shed.get();
    require(started == ended, "sessions started and ended are not the same number");
    require(ended + shed == io_.accepted(), "sessions ended and shed are not those accepted");
    so_far.sessions += ended;
    so_far.shed += shed;
    so_far.bulk += counters_.worker.bulk_turns.get();
    for (const Counter& counter : counters_.services[0].refusals) so_far.refused += counter.get();
    check_bytes();
  }

  void check_bytes() {
    std::vector<std::uint32_t> heard;  // clients whose bytes a backend has
    for (const Connection& connection : io_.connections()) {
      const std::vector<std::uint8_t>& received = connection.remote.received;
      const Connection* from = by_stream(received, !connection.client);
      for (std::size_t i = 0; from != nullptr && i < received.size(); ++i)
        require(received[i] == SimIo::stream_byte(from->number, i),
                "bytes out are not a prefix of bytes in");
      if (connection.client) {
        require(connection.remote.fin_received || connection.remote.rst_received ||
                    connection.remote.closed,
                "a client saw no end of its session");
        if (from != nullptr) check_complete(connection, *from);
      } else if (from != nullptr) {
        require(std::find(heard.begin(), heard.end(), from->number) == heard.end(),
                "one client's bytes reached two backends");
        heard.push_back(from->number);
        require(connection.remote.fin_received || connection.remote.rst_received ||
                    connection.remote.closed,
                "a backend saw no end of its session");
      }
    }
  }

  static bool awaits_bytes(const Connection& connection) {
    return std::any_of(connection.script.steps.begin(), connection.script.steps.end(),
                       [](const Step& step) { return step.kind == Step::Kind::await_bytes; });
  }

  void check_complete(const Connection& client, const Connection& backend) {
    const Manner manner = manner_of(client), other = manner_of(backend);
    if (scenario_.stop_midway || scenario_.scarce || !reads(manner)) return;
    // Scripts pause for less than any timeout, so one FIN that is passed on leads to the other;
    // unless both wait for bytes.
    const bool somebody_ends = manner == Manner::half_closes || other == Manner::half_closes;
    require(!timed_out_ || scenario_.clients > 1 || !reads(other) || !somebody_ends ||
                awaits_bytes(client) || awaits_bytes(backend),
            "a session in which both sides behaved has timed out");
    if (timed_out_) return;
    const bool all_arrived = client.remote.received.size() == backend.remote.sent.size();
    if (other == Manner::replies_and_resets) {
      if (!backend.remote.rst_sent) return;
      require(all_arrived,
              fmt::format("a client got {} of the {} bytes that the server sent before it reset",
                          client.remote.received.size(), backend.remote.sent.size()));
      ++reached().replies_before_reset;
    } else if (reads(other)) {
      require(all_arrived, fmt::format("a client got {} of {} bytes though both ended in order",
                                       client.remote.received.size(), backend.remote.sent.size()));
      require(backend.remote.received.size() == client.remote.sent.size(),
              fmt::format("a backend got {} of {} bytes though both ended in order",
                          backend.remote.received.size(), client.remote.sent.size()));
      ++reached().complete;
    }
  }

  Scenario scenario_;
  SimIo io_;
  proxy::Tuning tuning_;
  proxy::Registries registries_;
  proxy::Counters counters_;
  proxy::Snapshot snapshot_;
  std::uint32_t sessions_max_ = 16;
  bool timed_out_ = false;
  std::unique_ptr<proxy::Worker> worker_;
  std::vector<std::uint32_t> maximum_;
  const Address vip_ = *Address::from_ip("127.0.0.1", 25);
};

}  // namespace

Reached& reached() {
  static Reached so_far;
  return so_far;
}

void run(const Scenario& scenario) {
  try {
    Run(scenario).play();
  } catch (const Violation& violation) {
    throw Violation(fmt::format("{} (seed {}{}{}{})", violation.what(), scenario.seed,
                                scenario.stop_midway ? ", stop_midway" : "",
                                scenario.scarce ? ", scarce" : "",
                                scenario.stalled_readers ? ", stalled_readers" : ""));
  }
}

}  // namespace poise::sim
