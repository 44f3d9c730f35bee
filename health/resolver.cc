#include "health/resolver.h"

#include <ares.h>
#include <ev++.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

namespace poise::health {
namespace {

using config::LogLevel;

constexpr int kTimeoutMs = 2000, kTries = 2;

std::string listed(const std::vector<Address>& addresses) {
  std::string all;
  for (const Address& each : addresses) all += (all.empty() ? "" : ", ") + each.ip_text();
  return all;
}

}  // namespace

struct Resolver::Implementation {
  Implementation(struct ev_loop* ev_loop, std::string csv, Output out)
      : loop(ev_loop), servers(std::move(csv)), output(std::move(out)), timeout(ev_loop) {
    timeout.set<Implementation, &Implementation::on_timeout>(this);
  }
  ~Implementation() { close(); }

  struct Name {
    explicit Name(struct ev_loop* ev_loop) : due(ev_loop) {}
    AddressSet set;
    FamilyAnswer v4, v6;
    int pending = 0;
    bool failing = false;      ///< said so
    std::size_t left_out = 0;  ///< said so
    ev::timer due;
    Implementation* owner = nullptr;
    std::string text;
    void ask(ev::timer&, int) { owner->ask(*this); }
  };

  /// What a callback of the library needs; its own, because the name may go while it is asked for.
  struct Query {
    Implementation* owner;
    std::string name;
    int family;
  };

  Result<void> open() {
    ares_options options{};
    options.sock_state_cb = &Implementation::on_socket;
    options.sock_state_cb_data = this;
    options.timeout = kTimeoutMs;
    options.tries = kTries;
    int status = ares_init_options(&channel, &options,
                                   ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
    if (status == ARES_SUCCESS && !servers.empty())
      status = ares_set_servers_ports_csv(channel, servers.c_str());
    if (status == ARES_SUCCESS) return {};
    close();
    return Error{servers.empty() ? "resolver" : "resolver " + servers, ares_strerror(status)};
  }

  void close() {
    if (channel != nullptr) ares_destroy(channel);
    channel = nullptr;
    sockets.clear();
    timeout.stop();
  }

  static void on_socket(void* self, ares_socket_t fd, int readable, int writable) {
    auto& resolver = *static_cast<Implementation*>(self);
    resolver.sockets.erase(fd);
    if (!readable && !writable) return;
    auto watcher = std::make_unique<ev::io>(resolver.loop);
    watcher->set<Implementation, &Implementation::on_ready>(&resolver);
    watcher->start(fd, (readable ? ev::READ : 0) | (writable ? ev::WRITE : 0));
    resolver.sockets.emplace(fd, std::move(watcher));
  }

  void on_ready(ev::io& watcher, int events) {
    const int fd = watcher.fd;  // the watcher may be gone after this
    ares_process_fd(channel, (events & ev::READ) != 0 ? fd : ARES_SOCKET_BAD,
                    (events & ev::WRITE) != 0 ? fd : ARES_SOCKET_BAD);
    rearm();
  }

  void on_timeout(ev::timer&, int) {
    ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    rearm();
  }

  void rearm() {
    timeout.stop();
    if (channel == nullptr) return;
    timeval tv{};
    if (ares_timeout(channel, nullptr, &tv) == nullptr) return;
    timeout.start(static_cast<double>(tv.tv_sec) + static_cast<double>(tv.tv_usec) / 1e6 + 0.001);
  }

  void set_names(const std::vector<std::string>& wanted) {
    const std::set<std::string> set(wanted.begin(), wanted.end());
    std::erase_if(names, [&](const auto& each) { return !set.contains(each.first); });
    for (const std::string& text : set) {
      if (names.contains(text)) continue;
      auto name = std::make_unique<Name>(loop);
      name->owner = this;
      name->text = text;
      name->due.set<Name, &Name::ask>(name.get());
      Name& added = *names.emplace(text, std::move(name)).first->second;
      ask(added);
    }
  }

  void ask(Name& name) {
    if (name.pending > 0) return;
    // Servers that do not answer may be yesterday's: read who they are again.
    if (renew && active == 0) {
      close();
      renew = false;
    }
    if (channel == nullptr) {
      if (auto opened = open(); !opened) {
        name.v4 = name.v6 = {.kind = FamilyAnswer::Kind::failed,
                             .addresses = {},
                             .ttl = {},
                             .error = opened.error().text()};
        return answered(name);
      }
    }
    name.pending = 2;
    active += 2;
    const std::string text = name.text;
    for (const int family : {AF_INET, AF_INET6}) {
      ares_addrinfo_hints hints{};
      hints.ai_flags = ARES_AI_NOSORT;
      hints.ai_family = family;
      hints.ai_socktype = SOCK_STREAM;
      ares_getaddrinfo(channel, text.c_str(), nullptr, &hints, &Implementation::on_answer,
                       new Query{this, text, family});
    }
    rearm();
  }

  static void on_answer(void* argument, int status, int, ares_addrinfo* result) {
    const std::unique_ptr<Query> query(static_cast<Query*>(argument));
    const std::unique_ptr<ares_addrinfo, void (*)(ares_addrinfo*)> list(result, &ares_freeaddrinfo);
    if (status == ARES_EDESTRUCTION) return;
    Implementation& self = *query->owner;
    --self.active;
    const auto at = self.names.find(query->name);
    if (at == self.names.end() || at->second->pending == 0) return;
    Name& name = *at->second;
    (query->family == AF_INET ? name.v4 : name.v6) = answer_of(status, result);
    if (--name.pending == 0) self.answered(name);
  }

  static FamilyAnswer answer_of(int status, const ares_addrinfo* result) {
    FamilyAnswer answer;
    if (status != ARES_SUCCESS) {
      answer.kind = status == ARES_ENODATA || status == ARES_ENOTFOUND ? FamilyAnswer::Kind::none
                                                                       : FamilyAnswer::Kind::failed;
      answer.error = ares_strerror(status);
      return answer;
    }
    int ttl = INT32_MAX;
    for (const ares_addrinfo_node* node = result->nodes; node != nullptr; node = node->ai_next) {
      Address address;
      if (node->ai_family == AF_INET) {
        sockaddr_in v4{};
        std::memcpy(&v4, node->ai_addr, sizeof v4);
        std::memcpy(address.ip.data(), &v4.sin_addr, 4);
      } else if (node->ai_family == AF_INET6) {
        sockaddr_in6 v6{};
        std::memcpy(&v6, node->ai_addr, sizeof v6);
        std::memcpy(address.ip.data(), &v6.sin6_addr, 16);
      } else {
        continue;
      }
      address.family = static_cast<std::uint8_t>(node->ai_family);
      answer.addresses.push_back(address);
      ttl = std::min(ttl, node->ai_ttl);
    }
    answer.kind =
        answer.addresses.empty() ? FamilyAnswer::Kind::none : FamilyAnswer::Kind::addresses;
    answer.ttl = std::chrono::seconds{std::max(ttl, 0)};
    if (answer.addresses.empty()) answer.error = "no address";
    return answer;
  }

  void answered(Name& name) {
    const std::string before = listed(name.set.addresses());
    const bool changed = name.set.update(name.v4, name.v6);
    const bool failing = !name.set.error().empty();
    if (failing) renew = true;
    if (failing && !name.failing)
      output.alert(LogLevel::warning,
                   before.empty()
                       ? fmt::format("name {}: no address ({}); its backends wait for one",
                                     name.text, name.set.error())
                       : fmt::format("name {}: no answer ({}); staying with {}", name.text,
                                     name.set.error(), before));
    if (!failing && name.failing)
      output.alert(LogLevel::info, fmt::format("name {}: answered again: {}", name.text,
                                               listed(name.set.addresses())));
    name.failing = failing;
    if (name.set.left_out() > 0 && name.left_out == 0)
      output.alert(LogLevel::warning,
                   fmt::format("name {}: more than {} addresses; {} are left out", name.text,
                               AddressSet::kMax, name.set.left_out()));
    name.left_out = name.set.left_out();
    name.due.stop();
    name.due.start(static_cast<double>(name.set.wait().count()));
    if (!changed) return;
    if (!before.empty())
      output.alert(LogLevel::info, fmt::format("name {}: {} -> {}", name.text, before,
                                               listed(name.set.addresses())));
    output.changed(name.text, name.set.addresses());
  }

  struct ev_loop* loop;
  std::string servers;
  Output output;
  ares_channel channel = nullptr;
  ev::timer timeout;
  std::map<int, std::unique_ptr<ev::io>> sockets;
  std::map<std::string, std::unique_ptr<Name>> names;
  int active = 0;
  bool renew = false;
};

Resolver::Resolver(struct ev_loop* loop, std::string servers, Output output)
    : implementation_(
          std::make_unique<Implementation>(loop, std::move(servers), std::move(output))) {}

Resolver::~Resolver() = default;

Result<void> Resolver::open() {
  return implementation_->open();
}

void Resolver::set_names(const std::vector<std::string>& names) {
  implementation_->set_names(names);
}

}  // namespace poise::health
