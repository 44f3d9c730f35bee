#include "net/transparent.h"

#include <fmt/format.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "net/fd.h"

namespace poise::net {
namespace {

/// What "ip route get" shows.
struct Route {
  unsigned char type = RTN_UNSPEC;
  std::uint32_t interface = 0;
};

/// The head of a message about a route, asked or answered; attributes follow it.
struct Head {
  nlmsghdr message;
  rtmsg route;
};
static_assert(sizeof(Head) == NLMSG_LENGTH(sizeof(rtmsg)));

class RouteRequest {
 public:
  explicit RouteRequest(const Address& to) {
    head_.message.nlmsg_type = RTM_GETROUTE;
    head_.message.nlmsg_flags = NLM_F_REQUEST;
    head_.route.rtm_family = to.family;
    head_.route.rtm_dst_len = static_cast<unsigned char>(to.bits());
    add(RTA_DST, to.ip.data(), to.bits() / 8);
  }

  void from(const Address& source) {
    head_.route.rtm_src_len = static_cast<unsigned char>(source.bits());
    add(RTA_SRC, source.ip.data(), source.bits() / 8);
    const std::uint8_t protocol = IPPROTO_TCP;
    const std::uint16_t port = htons(source.port);
    add(RTA_IP_PROTO, &protocol, sizeof protocol);
    add(RTA_SPORT, &port, sizeof port);
  }
  void arriving_at(std::uint32_t interface) { add(RTA_IIF, &interface, sizeof interface); }

  [[nodiscard]] std::optional<Route> ask() {
    const Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    std::string request(sizeof head_, '\0');
    head_.message.nlmsg_len = static_cast<std::uint32_t>(sizeof head_ + attributes_.size());
    std::memcpy(request.data(), &head_, sizeof head_);
    request += attributes_;
    if (!fd || ::send(fd.get(), request.data(), request.size(), 0) < 0) return std::nullopt;
    std::array<char, 4096> answer;
    const ssize_t length = ::recv(fd.get(), answer.data(), answer.size(), 0);
    Head head;
    if (length < static_cast<ssize_t>(sizeof head)) return std::nullopt;
    std::memcpy(&head, answer.data(), sizeof head);
    if (head.message.nlmsg_type != RTM_NEWROUTE) return std::nullopt;
    Route route{.type = head.route.rtm_type};
    std::string_view left(answer.data() + sizeof head,
                          static_cast<std::size_t>(length) - sizeof head);
    rtattr attribute;
    while (left.size() >= sizeof attribute) {
      std::memcpy(&attribute, left.data(), sizeof attribute);
      if (attribute.rta_len < sizeof attribute || attribute.rta_len > left.size()) break;
      if (attribute.rta_type == RTA_OIF &&
          attribute.rta_len == sizeof attribute + sizeof route.interface)
        std::memcpy(&route.interface, left.data() + sizeof attribute, sizeof route.interface);
      left.remove_prefix(std::min<std::size_t>(RTA_ALIGN(attribute.rta_len), left.size()));
    }
    return route;
  }

 private:
  void add(unsigned short type, const void* value, std::size_t size) {
    rtattr attribute;
    attribute.rta_type = type;
    attribute.rta_len = static_cast<unsigned short>(sizeof attribute + size);
    attributes_.append(reinterpret_cast<const char*>(&attribute), sizeof attribute);
    attributes_.append(static_cast<const char*>(value), size);
    attributes_.resize(RTA_ALIGN(attributes_.size()));
  }

  Head head_{};
  std::string attributes_;
};

/// Somebody who is neither us nor a neighbour: RFC 5737 and 3849 keep these for documentation.
Address a_client(bool v6) {
  return *Address::from_ip(v6 ? "2001:db8::1" : "192.0.2.1");
}

}  // namespace

Result<void> check_transparent() {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
  const int on = 1;
  if (fd && ::setsockopt(fd.get(), IPPROTO_IP, IP_TRANSPARENT, &on, sizeof on) == 0) return {};
  return Error{
      "\"source_address\": \"client\"",
      fmt::format("{}: needs CAP_NET_RAW; start as root (\"user\" is still changed to), or "
                  "give the capability",
                  std::strerror(errno))};
}

Result<void> check_return_route(const Address& server) {
  const auto there = RouteRequest(server).ask();
  if (!there) return Error{server.text(), "no route to it"};
  RouteRequest back(a_client(server.is_v6()));
  back.from(server);
  const bool here = there->type == RTN_LOCAL;
  if (!here) back.arriving_at(there->interface);
  const auto found = back.ask();
  if (found && found->type == RTN_LOCAL) return {};
  std::array<char, IF_NAMESIZE> name{};
  const bool named = !here && ::if_indextoname(there->interface, name.data()) != nullptr;
  const char* ip = server.is_v6() ? "ip -6" : "ip";
  return Error{
      server.text(),
      fmt::format("what it answers to a client's own address would not come to us, and no "
                  "session would get anywhere; make its default route lead here, and run: {} "
                  "rule add{}{} ipproto tcp sport {} lookup 100 && {} route replace local "
                  "default dev lo table 100",
                  ip, named ? " iif " : "", named ? name.data() : "", server.port, ip)};
}

}  // namespace poise::net
