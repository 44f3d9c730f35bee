#include "control/listeners.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "control/ipvs_table.h"

namespace poise::control {

using config::LogLevel;

namespace {

net::ListenerOptions options_of(const config::Service& service) {
  net::ListenerOptions options;
  options.keepalive = service.keepalive;
  options.user_timeout = service.user_timeout;
  options.congestion = service.congestion;
  return options;
}

bool overlap(const Address& a, const Address& b) {
  return a.family == b.family && a.port == b.port && (a.ip == b.ip || a.is_any() || b.is_any());
}

}  // namespace

/// The open listener that serves `wanted`, each at most once: several may ask for port 0.
bool Listeners::claim(std::vector<bool>& claimed, const std::string& service, const Address& wanted,
                      std::size_t& index) const {
  for (index = 0; index < open_.size(); ++index) {
    if (claimed[index] || open_[index].wanted != wanted) continue;
    if (wanted.port == 0 && open_[index].service != service) continue;
    claimed[index] = true;
    return true;
  }
  return false;
}

bool Listeners::overlaps_ours(const Address& address) const {
  const auto same = [&address](const Address& ours) { return overlap(address, ours); };
  return std::any_of(open_.begin(), open_.end(),
                     [&same](const Open& open) { return same(open.address); }) ||
         std::any_of(closing_addresses_.begin(), closing_addresses_.end(), same);
}

Result<std::vector<Listeners::Open>> Listeners::open_missing(const config::Config& config,
                                                             unsigned workers) {
  std::vector<bool> claimed(open_.size());
  std::vector<Open> opened;
  for (const config::Service& service : config.services) {
    if (!wants_listeners(service)) continue;
    for (const Address& wanted : service.listen) {
      std::size_t index = 0;
      if (claim(claimed, service.name, wanted, index)) continue;
      Open open{.service = service.name,
                .wanted = wanted,
                .address = wanted,
                .options = options_of(service),
                .fds = {}};
      // A wildcard may replace one of its addresses in the same reload; then who listens there is
      // us.
      const bool ours = overlaps_ours(wanted);
      for (unsigned worker = 0; worker < workers; ++worker) {
        open.options.expect_unused = worker == 0 && !ours;
        auto fd = net::open_listener(open.address, open.options);
        if (!fd) return Error{"service " + service.name, fd.error().text()};
        if (open.address.port == 0) open.address.port = net::local_address(fd->get()).port;
        open.fds.push_back(std::move(*fd));
      }
      opened.push_back(std::move(open));
    }
  }
  return opened;
}

void Listeners::apply(const config::Config& config, std::vector<Open> opened, const World& world,
                      Loop& loop) {
  std::vector<bool> claimed(open_.size());
  for (const config::Service& service : config.services) {
    if (!wants_listeners(service)) continue;
    for (const Address& wanted : service.listen) {
      std::size_t index = 0;
      if (!claim(claimed, service.name, wanted, index)) continue;
      Open& open = open_[index];
      open.options = options_of(service);
      for (const net::Fd& fd : open.fds) net::set_listener_options(fd.get(), open.options);
      if (open.service == service.name) continue;
      log_.message(LogLevel::info, "listening service={} address={} (was service {})", service.name,
                   open.address.text(), open.service);
      open.service = service.name;
      // Clients wait in the kernel's queue while the socket changes hands.
      const ServiceId id = world.service(service.name);
      const Address address = open.address;
      let_go(
          open, loop,
          [this, id, address](std::size_t worker) {
            for (const Open& each : open_)
              if (each.address == address && !stopped_) accept(each, worker, id);
          },
          [] {});
    }
  }
  std::vector<Open> kept;
  for (std::size_t index = 0; index < open_.size(); ++index) {
    if (claimed[index]) {
      kept.push_back(std::move(open_[index]));
      continue;
    }
    auto removed = std::make_shared<Open>(std::move(open_[index]));
    closing_addresses_.push_back(removed->address);
    let_go(
        *removed, loop, [](std::size_t) {},
        [this, removed] {
          log_.message(LogLevel::info, "no longer listening service={} address={}",
                       removed->service, removed->address.text());
          std::erase(closing_addresses_, removed->address);
          removed->fds.clear();
        });
  }
  open_ = std::move(kept);
  for (Open& open : opened) {
    log_.message(LogLevel::info, "listening service={} address={}", open.service,
                 open.address.text());
    for (std::size_t worker = 0; worker < open.fds.size(); ++worker)
      accept(open, worker, world.service(open.service));
    open_.push_back(std::move(open));
  }
}

void Listeners::accept(const Open& open, std::size_t worker, ServiceId service) {
  workers_.post(
      worker,
      proxy::Listen{{{.fd = open.fds[worker].get(), .service = service, .address = open.address}}});
}

/// `each` and then `all` run in this thread, when a worker, and when the last one, has let go.
void Listeners::let_go(const Open& open, Loop& loop, std::function<void(std::size_t worker)> each,
                       std::function<void()> all) {
  closing_ += open.fds.size();
  auto left = std::make_shared<std::size_t>(open.fds.size());
  auto when_each = std::make_shared<std::function<void(std::size_t)>>(std::move(each));
  auto when_all = std::make_shared<std::function<void()>>(std::move(all));
  for (std::size_t worker = 0; worker < open.fds.size(); ++worker) {
    const auto gone = [this, left, when_each, when_all, worker] {
      --closing_;
      (*when_each)(worker);
      if (--*left == 0) (*when_all)();
    };
    workers_.post(worker, proxy::CloseListener{.fd = open.fds[worker].get(),
                                               .done = [&loop, gone] { loop.post(gone); }});
  }
}

}  // namespace poise::control
