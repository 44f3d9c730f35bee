#include "loadgen/loop/poller.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "poise/check.h"

namespace poise::loadgen {

Poller::Poller() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_) throw std::runtime_error(fmt::format("epoll_create1: {}", std::strerror(errno)));
}

void Poller::add(int fd, Tag tag, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag.packed();
  CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0);
}

void Poller::add_connection(int fd, Tag tag) {
  add(fd, tag, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

void Poller::add_readable(int fd, Tag tag) {
  add(fd, tag, EPOLLIN);
}

void Poller::remove(int fd) {
  CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr) == 0);
}

std::span<const Poller::Event> Poller::wait(Nanos deadline) {
  int timeout_ms = -1;
  if (deadline != kNever) {
    const Nanos left = deadline - now();
    // Rounded up: waking a little early would spin until the deadline.
    timeout_ms =
        left <= 0
            ? 0
            : static_cast<int>(std::min<Nanos>((left + kMillisecond - 1) / kMillisecond, 60'000));
  }
  int count;
  if (timeout_ms > 0 && deadline - now() < 2 * kMillisecond) {
    // An open loop at thousands a second has deadlines inside one millisecond.
    const Nanos left = std::max<Nanos>(0, deadline - now());
    const timespec precise{0, static_cast<long>(left)};
    count =
        epoll_pwait2(epoll_.get(), raw_.data(), static_cast<int>(raw_.size()), &precise, nullptr);
  } else {
    count = epoll_wait(epoll_.get(), raw_.data(), static_cast<int>(raw_.size()), timeout_ms);
  }
  if (count < 0) count = 0;  // EINTR
  for (std::size_t at = 0; at < static_cast<std::size_t>(count); ++at) {
    events_[at] = {Tag::unpacked(raw_[at].data.u64), raw_[at].events};
  }
  return {events_.data(), static_cast<std::size_t>(count)};
}

}  // namespace poise::loadgen
