#include "pair/driver.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace poise::pair {
namespace {

using Clock = Link::Clock;
using std::chrono::milliseconds;

constexpr milliseconds kPing{500};

std::uint64_t fresh_epoch() {
  std::uint64_t epoch = 0;
  if (::getrandom(&epoch, sizeof epoch, 0) != sizeof epoch)
    epoch = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  return epoch | 1u;
}

std::int64_t wall_ms() {
  return std::chrono::duration_cast<milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Driver::Driver(Options options, const Guard* guard, log::Log& log, Output output)
    : options_(std::move(options)),
      guard_(guard),
      log_(log),
      output_(std::move(output)),
      protocol_({.node = options_.pair.self().name,
                 .program = options_.program,
                 .peer = options_.pair.peer().name,
                 .epoch = fresh_epoch()}),
      instances_(options_.pair.vrrp),
      link_({.own = options_.pair.self().address,
             .peer = options_.pair.peer().address,
             .calls = options_.pair.own == 0,
             .key = options_.key},
            protocol_, mutex_, log) {}

Driver::~Driver() {
  stop();
}

Result<void> Driver::start() {
  wake_ = net::Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!wake_) return Error{"eventfd", std::strerror(errno)};
  if (auto opened = vrrp_.open(options_.fifo); !opened) return opened;
  if (auto opened = link_.open(); !opened) return Error{"pair", opened.error().text()};
  thread_ = std::thread([this] { run(); });
  return {};
}

void Driver::stop() {
  stopping_ = true;
  wake();
  if (thread_.joinable()) thread_.join();
}

void Driver::wake() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

void Driver::set_ping(Ping ping) {
  const std::lock_guard lock(mutex_);
  ping_ = ping;
}

void Driver::configure(std::vector<config::Vrrp> instances) {
  const std::lock_guard lock(mutex_);
  instances_ = std::move(instances);
  instances_new_ = true;
}

bool Driver::room() {
  const std::lock_guard lock(mutex_);
  return protocol_.room();
}

void Driver::push(Change change) {
  {
    const std::lock_guard lock(mutex_);
    if (!protocol_.joined()) return;
    protocol_.push(std::move(change));
  }
  wake();
}

void Driver::send(const Message& message) {
  {
    const std::lock_guard lock(mutex_);
    protocol_.send(message);
  }
  wake();
}

Driver::Figures Driver::figures() {
  const std::lock_guard lock(mutex_);
  return {.unacknowledged = protocol_.unacknowledged(),
          .pushed = protocol_.pushed(),
          .acknowledged = protocol_.acknowledged(),
          .heard = protocol_.heard(),
          .joined = protocol_.joined()};
}

void Driver::run() {
  Clock::time_point beat{}, ping{}, look{};
  bool joined = false;
  bool served = false;
  std::string trouble;
  std::vector<pollfd> polled;
  while (!stopping_) {
    // When its last writer is gone the FIFO stays hung up: then only the clock says when to look.
    polled.assign({{wake_.get(), POLLIN, 0}, {vrrp_.there() ? vrrp_.fd() : -1, POLLIN, 0}});
    link_.add_to(polled);
    ::poll(polled.data(), polled.size(), static_cast<int>(Guard::kBeat.count()));
    const auto now = Clock::now();
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t taken = ::read(wake_.get(), &count, sizeof count);
    const bool serves = serves_;
    if (now - beat >= Guard::kBeat || serves != served) {
      beat = now;
      served = serves;
      if (guard_ != nullptr) guard_->beat(serves);
    }
    link_.step(now);
    std::vector<Event> events;
    bool is_joined = false;
    {
      const std::lock_guard lock(mutex_);
      if (now - ping >= kPing && protocol_.joined()) {
        ping = now;
        ping_.wall_ms = wall_ms();
        protocol_.send(ping_);
      }
      events = protocol_.take_events();
      is_joined = protocol_.joined();
      if (std::exchange(instances_new_, false)) {
        vrrp_.configure(instances_);
        look = {};
      }
    }
    if (is_joined != joined || link_.trouble() != trouble) {
      joined = is_joined;
      trouble = link_.trouble();
      output_.link(joined, trouble);
    }
    for (Event& each : events) output_.event(std::move(each));
    const bool notice = polled[1].revents != 0;
    if (notice || now >= look) {
      // keepalived speaks before it acts: what it said shows a moment later.
      look = now + (notice ? Guard::kBeat : milliseconds(look_interval_ms_));
      if (vrrp_.look(serves)) output_.roles(vrrp_.roles());
    }
  }
}

}  // namespace poise::pair
