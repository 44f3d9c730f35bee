#include "ipvs/kernel.h"

#include <fmt/format.h>
#include <linux/ip_vs.h>
#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace poise::ipvs {
namespace {

/// The kernel answers while it is asked (to end a sync daemon took a slow one 5 s); longer means
/// that nothing will come.
constexpr timeval kPatience{.tv_sec = 15, .tv_usec = 0};

/// Changes in one datagram: each may be answered with an error, and all answers must fit into the
/// socket's receive buffer.
constexpr std::size_t kBatch = 64;

/// How often a dump that the table changed under is begun anew.
constexpr int kDumpsMax = 5;

/// Rounds of apply(): the first, and two more.
constexpr int kRoundsMax = 3;

constexpr const char* kModuleHint =
    "this kernel has no ip_vs (or may not load it): run \"modprobe ip_vs\"; if there is no such "
    "module, use \"forwarding\": \"proxy\", or \"forwarding_fallback\": \"proxy\"";

std::string explain(int error, const Change& change) {
  if (change.kind == Change::Kind::new_service || change.kind == Change::Kind::set_service) {
    if (error == ENOENT)
      return fmt::format("the kernel has no scheduler \"{0}\": run \"modprobe ip_vs_{0}\"",
                         change.settings.scheduler);
    if (error == EAFNOSUPPORT) return "this kernel's ip_vs knows no IPv6";
  }
  if (error == EPERM) return "not allowed: poised needs CAP_NET_ADMIN";
  return std::strerror(error);
}

}  // namespace

void Kernel::Closer::operator()(nl_sock* socket) const {
  nl_socket_free(socket);
}

Kernel::Kernel() = default;
Kernel::~Kernel() = default;

Error Kernel::failed(std::string what) {
  socket_.reset();
  return Error{"ip_vs", std::move(what)};
}

Result<void> Kernel::connect() {
  socket_.reset(nl_socket_alloc());
  if (socket_ == nullptr) return failed("no memory for a netlink socket");
  if (const int error = genl_connect(socket_.get()); error < 0)
    return failed(fmt::format("no netlink socket: {}", nl_geterror(error)));
  const int family = genl_ctrl_resolve(socket_.get(), IPVS_GENL_NAME);
  if (family < 0) return failed(kModuleHint);
  family_ = static_cast<std::uint16_t>(family);
  const int fd = nl_socket_get_fd(socket_.get());
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  return {};
}

Result<void> Kernel::usable() {
  if (auto ready = connect(); !ready) return ready;
  Reading ignored;
  int interrupted = 0;
  return read_services(ignored, interrupted);
}

Result<void> Kernel::connected() {
  return socket_ != nullptr ? Result<void>{} : connect();
}

Result<void> Kernel::send(std::span<const std::uint8_t> datagram) {
  // libnl reads, but takes it without const.
  if (const int error =
          nl_sendto(socket_.get(), const_cast<std::uint8_t*>(datagram.data()), datagram.size());
      error < 0)
    return failed(fmt::format("cannot send: {}", nl_geterror(error)));
  return {};
}

Result<void> Kernel::receive(const std::function<void(const Message&)>& take) {
  sockaddr_nl from{};
  unsigned char* data = nullptr;
  const int size = nl_recv(socket_.get(), &from, &data, nullptr);
  const std::unique_ptr<unsigned char, decltype(&std::free)> owner(data, &std::free);
  if (size == 0 || size == -NLE_AGAIN) return failed("the kernel does not answer");
  if (size < 0) return failed(fmt::format("cannot receive: {}", nl_geterror(size)));
  if (from.nl_pid != 0) return {};  // not from the kernel
  if (!for_each_message({data, static_cast<std::size_t>(size)}, take))
    return failed("the kernel's answer is not understood");
  return {};
}

/// Sends one request and hands its answers to `take` until the last one; `take` says false to what
/// it can't read. `error` is the kernel's errno.
Result<void> Kernel::transact(const Request& request, std::uint16_t flags,
                              const std::function<bool(const Message&)>& take, int& error) {
  if (auto ready = connected(); !ready) return ready;
  const std::uint32_t sequence = ++sequence_;
  Bytes datagram;
  append(datagram, request, family_, flags, sequence);
  ++messages_sent_;
  if (auto sent = send(datagram); !sent) return sent;
  bool over = false, understood = true;
  while (!over) {
    auto received = receive([&](const Message& message) {
      if (message.sequence != sequence || over) return;
      if (message.kind == Message::Kind::data) {
        understood = take(message) && understood;
        return;
      }
      if (message.interrupted) take(message);
      error = message.error;
      over = true;
    });
    if (!received) return received;
  }
  if (!understood) return failed("the kernel's answer is not understood");
  return {};
}

Result<void> Kernel::command(const Request& request, const std::string& what) {
  int error = 0;
  auto done = transact(
      request, NLM_F_ACK, [](const Message&) { return true; }, error);
  if (!done) return done;
  if (error != 0)
    return Error{"ip_vs", fmt::format("{}: {}", what,
                                      error == EPERM ? "not allowed: poised needs CAP_NET_ADMIN"
                                                     : std::strerror(error))};
  return {};
}

// ---- reading

namespace {

bool enter(const Message& message, Reading& reading) {
  auto reply = decode_service(message.attributes);
  if (!reply) return false;
  reading.table[reply->key].settings = std::move(reply->settings);
  reading.traffic[reply->key] = reply->traffic;
  return true;
}

}  // namespace

Result<void> Kernel::read_services(Reading& reading, int& interrupted) {
  int error = 0;
  auto done = transact(
      request_services(), NLM_F_DUMP,
      [&](const Message& message) {
        interrupted += message.interrupted ? 1 : 0;
        return message.kind != Message::Kind::data || enter(message, reading);
      },
      error);
  if (!done) return done;
  if (error != 0)
    return failed(fmt::format("cannot read the services: {}", error == EPERM
                                                                  ? "poised needs CAP_NET_ADMIN"
                                                                  : std::strerror(error)));
  return {};
}

Result<void> Kernel::read_destinations(const ServiceKey& key, Reading& reading) {
  for (int dump = 0; dump < kDumpsMax; ++dump) {
    auto& destinations = reading.table[key].destinations;
    auto& use = reading.use[key];
    destinations.clear();
    use.clear();
    int error = 0;
    bool interrupted = false;
    auto done = transact(
        request_destinations(key), NLM_F_DUMP,
        [&](const Message& message) {
          interrupted = interrupted || message.interrupted;
          if (message.kind != Message::Kind::data) return true;
          auto reply = decode_destination(message.attributes, key.address.family);
          if (!reply) return false;
          destinations[reply->address] = reply->destination;
          use[reply->address] = reply->use;
          return true;
        },
        error);
    if (!done) return done;
    // A service that went meanwhile has none.
    if (error != 0 && error != ESRCH)
      return failed(
          fmt::format("cannot read the servers of {}: {}", key.text(), std::strerror(error)));
    if (!interrupted) return {};
  }
  return {};  // somebody changes it all the time; the next reading sees more
}

Result<Reading> Kernel::read() {
  Reading reading;
  for (int dump = 0; dump < kDumpsMax; ++dump) {
    reading = {};
    int interrupted = 0;
    if (auto done = read_services(reading, interrupted); !done) return done.error();
    if (interrupted == 0) break;
  }
  for (auto& [key, service] : reading.table)
    if (auto done = read_destinations(key, reading); !done) return done.error();
  return reading;
}

Result<bool> Kernel::read_service(const ServiceKey& key, Reading& reading) {
  int error = 0;
  bool found = false;
  auto done = transact(
      request_service(key), NLM_F_ACK,
      [&](const Message& message) {
        found = true;
        return enter(message, reading);
      },
      error);
  if (!done) return done.error();
  if (error != 0 && error != ESRCH)
    return failed(fmt::format("cannot read service {}: {}", key.text(), std::strerror(error)));
  return found;
}

Result<Reading> Kernel::read(const std::set<ServiceKey>& services) {
  Reading reading;
  for (const ServiceKey& key : services) {
    auto found = read_service(key, reading);
    if (!found) return found.error();
    if (!*found) continue;
    if (auto done = read_destinations(key, reading); !done) return done.error();
  }
  return reading;
}

// ---- changing

Result<std::vector<int>> Kernel::perform(std::span<const Change> changes) {
  std::vector<int> errors(changes.size(), 0);
  for (std::size_t first = 0; first < changes.size(); first += kBatch) {
    if (auto ready = connected(); !ready) return ready.error();
    const std::size_t count = std::min(kBatch, changes.size() - first);
    const std::uint32_t sequence = sequence_ + 1;
    sequence_ += static_cast<std::uint32_t>(count);
    Bytes datagram;
    // Errors come back in any case; the last change's answer tells that all were done.
    for (std::size_t i = 0; i < count; ++i)
      append(datagram, request_for(changes[first + i]), family_,
             static_cast<std::uint16_t>(i + 1 == count ? NLM_F_ACK : 0),
             sequence + static_cast<std::uint32_t>(i));
    messages_sent_ += count;
    if (auto sent = send(datagram); !sent) return sent.error();
    bool over = false;
    while (!over) {
      auto received = receive([&](const Message& message) {
        const std::uint32_t index = message.sequence - sequence;
        if (index >= count || message.kind != Message::Kind::error) return;
        errors[first + index] = message.error;
        over = over || index + 1 == count;
      });
      if (!received) return received.error();
    }
  }
  return errors;
}

Result<Timeouts> Kernel::timeouts() {
  int error = 0;
  std::optional<Timeouts> timeouts;
  auto done = transact(
      request_timeouts(), NLM_F_ACK,
      [&](const Message& message) {
        timeouts = decode_timeouts(message.attributes);
        return timeouts.has_value();
      },
      error);
  if (!done) return done.error();
  if (error != 0 || !timeouts)
    return failed(fmt::format("cannot read the timeouts: {}", std::strerror(error)));
  return *timeouts;
}

Result<void> Kernel::set(const Timeouts& timeouts) {
  return command(request_set_timeouts(timeouts), "cannot set the timeouts");
}

Result<std::vector<SyncDaemon>> Kernel::daemons() {
  int error = 0;
  std::vector<SyncDaemon> daemons;
  auto done = transact(
      request_daemons(), NLM_F_DUMP,
      [&](const Message& message) {
        if (message.kind != Message::Kind::data) return true;
        auto daemon = decode_daemon(message.attributes);
        if (daemon) daemons.push_back(std::move(*daemon));
        return daemon.has_value();
      },
      error);
  if (!done) return done.error();
  if (error != 0)
    return failed(fmt::format("cannot read the sync daemons: {}", std::strerror(error)));
  return daemons;
}

Result<void> Kernel::start(const SyncDaemon& daemon) {
  return command(request_start(daemon),
                 fmt::format("cannot start the connection sync daemon on {}", daemon.interface));
}

/// The kernel gives no answer when the daemon's thread had not run yet (EINTR, which netlink keeps
/// to itself): look whether it is gone.
Result<void> Kernel::stop(const SyncDaemon& daemon) {
  if (auto ready = connected(); !ready) return ready;
  Bytes datagram;
  append(datagram, request_stop(daemon), family_, 0, ++sequence_);
  ++messages_sent_;
  if (auto sent = send(datagram); !sent) return sent;
  auto running = daemons();
  if (!running) return running.error();
  for (const SyncDaemon& each : *running)
    if (each.master == daemon.master)
      return Error{"ip_vs", "cannot stop the connection sync daemon"};
  return {};
}

// ---- as wanted

Result<Applied> apply(Kernel& kernel, const Table& wanted, const Table& believed,
                      const std::set<ServiceKey>& ours) {
  Applied applied;
  Table actual = believed;
  std::set<ServiceKey> touched;
  std::vector<Change> left = difference(wanted, actual, ours);
  for (int round = 0; round < kRoundsMax && !left.empty(); ++round) {
    auto errors = kernel.perform(left);
    if (!errors) return errors.error();
    applied.failures.clear();
    for (std::size_t i = 0; i < left.size(); ++i) {
      touched.insert(left[i].service);
      const int error = (*errors)[i];
      if (error == 0)
        (round == 0 ? applied.changes : applied.repairs).push_back(left[i]);
      else
        applied.failures.push_back(
            fmt::format("cannot {}: {}", left[i].text(), explain(error, left[i])));
    }
    auto reading = kernel.read(touched);
    if (!reading) return reading.error();
    applied.after = std::move(*reading);
    for (const ServiceKey& key : touched) {
      actual.erase(key);
      if (const auto is = applied.after.table.find(key); is != applied.after.table.end())
        actual.insert(*is);
    }
    left = difference(wanted, actual, ours);
  }
  if (left.empty()) applied.failures.clear();
  applied.changes.insert(applied.changes.end(), applied.repairs.begin(), applied.repairs.end());
  // Done, and yet not so: somebody works against us.
  if (!left.empty() && applied.failures.empty())
    for (const Change& change : left)
      applied.failures.push_back(fmt::format("{} was undone by somebody else", change.text()));
  return applied;
}

}  // namespace poise::ipvs
