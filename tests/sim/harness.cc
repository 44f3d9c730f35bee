#include "harness.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "mail/proxy_header.h"
#include "mail/refusal.h"

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

/// How a backend begins.
enum class Opening : std::uint8_t {
  none,  ///< its protocol has no greeting
  good,
  late,       ///< good, after a while
  temporary,  ///< 421, 450, * BYE
  policy,     ///< 421 4.7.1
  permanent,  ///< 554
  junk,
  silent,
  closes,
  resets,
};

const std::string kHello("\x16\x03\x01\0\x09\x01\0\0\x05#####", 14);
const std::string kHostname = "sim.test";

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
                                              scenario_.seed << 8, reports());
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
    tuning.spare_descriptors = scenario.seed % 2;
    return tuning;
  }

  proxy::Reports reports() {
    proxy::Reports reports;
    reports.hand_over = [this](std::uint32_t, const proxy::Place& place) {
      ++reached().handed_over;
      worker_->post(place);
    };
    return reports;
  }

  std::size_t window() { return 16 + io_.random(240); }

  void build() {
    registries_.services.grow(1);
    registries_.backends.grow(scenario_.backends);
    registries_.backend_addresses.grow(scenario_.backends);
    registries_.pools.grow(1);
    registries_.waiters.grow(1);
    registries_.sessions_max = sessions_max_ = scenario_.scarce ? 2 : 16;
    registries_.refusals_max = 1;
    counters_.pairs.grow(scenario_.backends + 1);
    counters_.services.grow(1);
    counters_.durations.grow(1);
    counters_.queue_waits.grow(1);
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
    constexpr std::array kGated{Protocol::smtp, Protocol::lmtp, Protocol::imap, Protocol::smtps};
    protocol_ = scenario_.gate       ? kGated[io_.random(kGated.size())]
                : io_.random(2) == 0 ? Protocol::smtp
                                     : Protocol::tcp;
    service.protocol = protocol_;
    service.hostname = kHostname;
    service.gate = scenario_.gate;
    service.greeting.tries = scenario_.gate ? 1 + io_.random(4) : 3;
    service.greeting.timeout = milliseconds(200);
    service.greeting.budget = milliseconds(1200);
    service.greeting.retry_5xx = io_.random(4) == 0;
    if (scenario_.gate) {
      service.early_talk = static_cast<config::EarlyTalk>(io_.random(3));
      service.send_proxy = static_cast<config::SendProxy>(io_.random(3));
      service.sees_client = service.send_proxy != config::SendProxy::off;
      if (io_.random(4) == 0) service.refusal.delay = milliseconds(30);
      if (io_.random(4) == 0)
        service.source_address.addresses.push_back(*Address::from_ip("127.0.0.9"));
    }
    service.pool_id = PoolId{0};
    service.waiters = &registries_.waiters[0];
    if (scenario_.gate && io_.random(2) == 0)
      service.queue = {.length = 1 + io_.random(3), .timeout = milliseconds(100 + io_.random(400))};
    if (scenario_.gate && io_.random(3) == 0) {
      service.sticky = &sticky_;
      sticky_.configure({.entries = 16, .ttl = milliseconds(5000), .backends = scenario_.backends});
    }
    service_ = service;
    service.timeouts = {.connect = milliseconds(30),
                        .idle = milliseconds(1500),
                        .owed = milliseconds(2000),
                        .half_closed = milliseconds(1000)};
    if (scenario_.idle.count() > 0)
      service.timeouts = {.connect = std::chrono::seconds(4),
                          .idle = std::chrono::minutes(35),
                          .owed = std::chrono::minutes(35),
                          .half_closed = std::chrono::minutes(5)};
    service.keepalive = milliseconds(1000);
    service.pool = pool;
    service.pair_none = 0;
    for (std::uint32_t i = 0; i < scenario_.backends; ++i) service.pairs.push_back(i + 1);
    snapshot_.version = 1;
    snapshot_.services.push_back(std::move(service));
    snapshot_.pools.push_back(std::move(pool));
  }

  Opening draw_opening() {
    if (!scenario_.gate) return Opening::none;
    const std::uint32_t draw = io_.random(20);
    if (draw < 8) return Opening::good;
    constexpr std::array kOthers{Opening::late,      Opening::temporary, Opening::temporary,
                                 Opening::permanent, Opening::policy,    Opening::junk,
                                 Opening::silent,    Opening::silent,    Opening::closes,
                                 Opening::closes,    Opening::resets,    Opening::resets};
    return kOthers[draw - 8];
  }

  [[nodiscard]] std::string words(Opening opening) {
    if (is_implicit_tls(protocol_)) return "\x16\x03\x03#####";
    const bool imap = protocol_ == Protocol::imap;
    const bool either = io_.random(2) == 0;
    if (opening == Opening::good || opening == Opening::late)
      return imap ? "* OK #####\r\n" : either ? "220 #####\r\n" : "220-#####\r\n220 x\r\n";
    if (opening == Opening::junk) return "HTTP #####\r\n";
    if (imap) return "* BYE #####\r\n";
    if (opening == Opening::policy) return "421 4.7.1 #####\r\n";
    if (opening == Opening::permanent) return "554 #####\r\n";
    return either ? "421 #####\r\n" : "450 #####\r\n";
  }

  /// The steps in which a backend greets, or does not.
  void greet(Script& script, Opening opening) {
    using Kind = Step::Kind;
    std::vector<Step>& steps = script.steps;
    if (is_implicit_tls(protocol_)) steps.push_back({Kind::await_bytes, 1});
    if (opening == Opening::late) steps.push_back({Kind::pause, 100 + io_.random(400)});
    if (opening == Opening::none) return;
    if (opening == Opening::silent) {
      steps.insert(steps.end(), {{Kind::await_end, 0}, {Kind::close, 0}});
    } else if (opening == Opening::closes || opening == Opening::resets) {
      steps.push_back({opening == Opening::closes ? Kind::close : Kind::reset, 0});
    } else {
      script.opening = words(opening);
      steps.push_back({Kind::say, 0});
    }
  }

  Script make_life(bool client, Opening opening = Opening::none) {
    using Kind = Step::Kind;
    Script script;
    script.reads_max = 1 + io_.random(100);
    std::vector<Step>& steps = script.steps;
    if (scenario_.idle.count() > 0) {
      const auto silence = static_cast<std::uint32_t>(milliseconds(scenario_.idle).count());
      if (client)
        steps = {{Kind::send, 20}, {Kind::await_bytes, 5}, {Kind::pause, silence},
                 {Kind::send, 10}, {Kind::finish, 0},      {Kind::await_end, 0},
                 {Kind::close, 0}};
      else
        steps = {{Kind::await_bytes, 20},
                 {Kind::send, 5},
                 {Kind::await_end, 0},
                 {Kind::finish, 0},
                 {Kind::close, 0}};
      script.label = static_cast<std::uint8_t>(Manner::half_closes);
      return script;
    }
    if (client && scenario_.gate) {
      if (is_implicit_tls(protocol_)) {
        script.opening = kHello;
        steps.push_back({Kind::say, 0});
      }
      if (io_.random(4) != 0) steps.push_back({Kind::await_bytes, 1});
    }
    if (!client) {
      greet(script, opening);
      if (opening == Opening::silent || opening == Opening::closes || opening == Opening::resets) {
        script.label = static_cast<std::uint8_t>(Manner::closes_early);
        return script;
      }
    }
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
    const Opening opening = draw_opening();
    connection.script = make_life(false, opening);
    connection.window = window();
    if (scenario_.failing_connects && io_.random(3) == 0)
      connection.answer = static_cast<ConnectAnswer>(1 + io_.random(3));
    contacted_.push_back({to.port, opening, &connection});
  }

  void check_limits() {
    for (std::uint32_t i = 0; i < scenario_.backends; ++i)
      require(maximum_[i] == 0 || registries_.backends[i].sessions.load() <= maximum_[i],
              "max_sessions is exceeded");
    require(registries_.sessions.load() <= sessions_max_ + registries_.refusals_max,
            "more sessions than the process may have");
  }

  /// What a backend received, without the PROXY header, which must be right.
  std::vector<std::uint8_t> without_header(const std::vector<std::uint8_t>& received) {
    if (service_.send_proxy == config::SendProxy::off || received.empty()) return received;
    const mail::ProxyHeader header = mail::parse_proxy_header(text_of(received));
    if (header.status == mail::ProxyHeaderStatus::need_more) return {};
    require(header.status == mail::ProxyHeaderStatus::complete, "a PROXY header is malformed");
    require(header.source.ip_text() == "127.0.0.2" && header.destination == vip_,
            "a PROXY header has the wrong addresses");
    return {received.begin() + static_cast<std::ptrdiff_t>(header.length), received.end()};
  }

  static std::string_view text_of(const std::vector<std::uint8_t>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  /// The text with which we refuse; empty: `received` is not ours. Any reason's will do.
  std::string refusal_in(const std::vector<std::uint8_t>& received) {
    const mail::RefusalStyle style{.protocol = protocol_, .hostname = kHostname, .text = {}};
    for (std::size_t reason = 0; reason < kRefusalReasonNames.size(); ++reason) {
      std::array<char, mail::kRefusalBytesMax> text;
      const std::size_t length =
          mail::write_refusal(text, style, static_cast<RefusalReason>(reason));
      const std::string_view whole(text.data(), length);
      if (length == 0 || received.empty() || (scenario_.gate && received.size() < 6)) continue;
      if (whole.starts_with(text_of(received)) || text_of(received).starts_with(whole))
        return std::string(whole);
    }
    return {};
  }

  const Connection* by_stream(const std::vector<std::uint8_t>& received, bool client) {
    const bool named = scenario_.gate && (!client || is_implicit_tls(protocol_));
    std::uint32_t number = 0;
    if (named) {
      const std::string_view text = text_of(received);
      const std::size_t at = client ? 9 : is_implicit_tls(protocol_) ? 3 : digits_at(text);
      if (text.size() < at + 5) return nullptr;
      for (const char digit : text.substr(at, 5))
        number = number * 10 + static_cast<std::uint32_t>(digit - '0');
    } else {
      if (received.size() < 2) return nullptr;
      number = received[0] | static_cast<std::uint32_t>(received[1]) << 8;
    }
    for (const Connection& each : io_.connections())
      if (each.number == number && each.client == client) return &each;
    throw Violation(fmt::format("bytes arrived that no peer of the other kind has sent: \"{}\"",
                                text_of(received).substr(0, 40)));
  }

  static std::size_t digits_at(std::string_view text) {
    const std::size_t at = text.find(" 4.7.1") != std::string_view::npos          ? 10
                           : text.starts_with("* OK") || text.starts_with("HTTP") ? 5
                           : text.starts_with("* BYE")                            ? 6
                                                                                  : 4;
    return at;
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
    for (std::uint32_t i = 0; i < scenario_.backends; ++i)
      require(registries_.backends[i].brakes.pending() == 0, "a turn at a brake leaked");
    require(core.blocks.used() == 0, "a block leaked");
    require(core.pipes.lent() == 0, "a pipe leaked");
    require(registries_.waiters[0].length() == 0, "a waiter was forgotten");
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
      for (const Counter& counter : counters_.pairs[pair].retries) so_far.retried += counter.get();
    }
    const std::uint64_t shed = counters_.worker.sessions_shed.get();
    require(started == ended, "sessions started and ended are not the same number");
    require(ended + shed == io_.accepted(), "sessions ended and shed are not those accepted");
    so_far.sessions += ended;
    so_far.shed += shed;
    so_far.bulk += counters_.worker.bulk_turns.get();
    for (const Counter& counter : counters_.services[0].refusals) so_far.refused += counter.get();
    so_far.early += counters_.services[0].early_talkers.get();
    check_bytes();
  }

  void check_bytes() {
    std::vector<std::uint32_t> heard;  // clients whose bytes a backend has
    for (const Connection& connection : io_.connections()) {
      const std::vector<std::uint8_t> received = connection.client
                                                     ? connection.remote.received
                                                     : without_header(connection.remote.received);
      if (connection.client) {
        require(connection.remote.fin_received || connection.remote.rst_received ||
                    connection.remote.closed,
                "a client saw no end of its session");
        if (const std::string refusal = refusal_in(received); !refusal.empty()) {
          check_refused(connection, refusal);
          continue;
        }
      }
      const Connection* from = by_stream(received, !connection.client);
      if (from == nullptr) continue;
      require(received.size() <= from->remote.sent.size() &&
                  std::equal(received.begin(), received.end(), from->remote.sent.begin()),
              "bytes out are not a prefix of bytes in");
      if (connection.client) {
        check_complete(connection, *from);
        check_alone(connection, *from);
        continue;
      }
      require(connection.remote.fin_received || connection.remote.rst_received ||
                  connection.remote.closed,
              "a backend saw no end of its session");
      if (received.size() <= from->script.opening.size()) {  // a ClientHello may be said again
        reached().replayed += std::count(replays_.begin(), replays_.end(), from->number) > 0;
        replays_.push_back(from->number);
        continue;
      }
      require(std::find(heard.begin(), heard.end(), from->number) == heard.end(),
              "one client's bytes reached two backends");
      heard.push_back(from->number);
    }
  }

  void check_refused(const Connection& client, const std::string& refusal) {
    if (scenario_.stop_midway || scenario_.scarce || !reads(manner_of(client))) return;
    require(client.remote.received.size() >= refusal.size() || client.remote.rst_received ||
                client.remote.closed,
            "a refusal was cut short");
    ++reached().refusals_read;
    // A PROXY header that does not fit, or a source address that is not to be had, fails a try.
    if (scenario_.clients != 1 || service_.send_proxy != config::SendProxy::off ||
        !service_.source_address.addresses.empty())
      return;
    for (const Contact& each : contacted_)
      if (!answers(each)) return;
    require(contacted_.empty() || refusals(RefusalReason::early_talker) > 0,
            "all backends answered, and the client got our words instead of the last one's");
  }

  std::uint64_t refusals(RefusalReason reason) {
    return counters_.services[0].refusals[static_cast<std::size_t>(reason)].get();
  }

  struct Contact {
    std::uint16_t port;
    Opening opening;
    const Connection* connection;
  };
  static bool answers(const Contact& contact) {
    const End& end = contact.connection->remote;
    return contact.connection->answer == ConnectAnswer::accept && !end.sent.empty() &&
           end.delivered >= contact.connection->script.opening.size() &&
           (contact.opening == Opening::temporary || contact.opening == Opening::policy ||
            contact.opening == Opening::permanent);
  }

  /// With one client every contact was made for it.
  void check_alone(const Connection& /*client*/, const Connection& from) {
    if (!scenario_.gate || scenario_.clients != 1 || contacted_.empty()) return;
    require(contacted_.size() <= service_.greeting.tries, "more backends were asked than tries");
    require(contacted_.back().connection == &from, "the client heard one that was given up");
    for (std::size_t i = 0; i + 1 < contacted_.size(); ++i) {
      const Contact& each = contacted_[i];
      for (std::size_t k = 0; k < i; ++k)
        require(contacted_[k].port != each.port, "a backend was asked twice");
      if (service_.send_proxy != config::SendProxy::off || !answers(each)) continue;
      require(is_implicit_tls(protocol_) || each.opening != Opening::permanent ||
                  service_.greeting.retry_5xx || protocol_ == Protocol::imap,
              "another backend was asked after a verdict on the client");
    }
    if (contacted_.back().opening == Opening::temporary) {
      require(std::all_of(contacted_.begin(), contacted_.end(),
                          [](const Contact& each) { return answers(each); }) ||
                  is_implicit_tls(protocol_) || counters_.services[0].early_talkers.get() > 0,
              "a temporary reply was passed on though others had failed otherwise");
      ++reached().passed_on;
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
      const std::size_t arrived = without_header(backend.remote.received).size();
      require(arrived == client.remote.sent.size(),
              fmt::format("a backend got {} of {} bytes though both ended in order", arrived,
                          client.remote.sent.size()));
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
  Protocol protocol_ = Protocol::tcp;
  proxy::Service service_;
  balance::StickyTable sticky_{{}, 1};
  std::vector<Contact> contacted_;
  std::vector<std::uint32_t> replays_;
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
                                scenario.scarce ? ", scarce"
                                : scenario.gate ? ", gate"
                                                : "",
                                scenario.stalled_readers ? ", stalled_readers" : ""));
  }
}

}  // namespace poise::sim
