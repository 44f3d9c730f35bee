#include "ipvs/messages.h"

#include <arpa/inet.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <array>
#include <cstring>
#include <memory>

#include "poise/check.h"

namespace poise::ipvs {
namespace {

constexpr std::size_t kAddressBytes = 16;  ///< union nf_inet_addr
constexpr std::uint32_t kFlagsOurs = IP_VS_SVC_F_SCHED1 | IP_VS_SVC_F_SCHED2 | IP_VS_SVC_F_SCHED3;

struct FreeMessage {
  void operator()(nl_msg* message) const { nlmsg_free(message); }
};
using MessagePointer = std::unique_ptr<nl_msg, FreeMessage>;

/// Builds attributes in a libnl message; what it allocates is small and bounded, so a failure is
/// the machine's memory at its end.
class Builder {
 public:
  Builder() : message_(nlmsg_alloc()) {
    CHECK(message_ != nullptr);
    CHECK(nlmsg_put(message_.get(), 0, 0, 0, 0, 0) != nullptr);
  }

  void put_u8(int type, std::uint8_t value) { CHECK(nla_put_u8(get(), type, value) == 0); }
  void put_u16(int type, std::uint16_t value) { CHECK(nla_put_u16(get(), type, value) == 0); }
  void put_u32(int type, std::uint32_t value) { CHECK(nla_put_u32(get(), type, value) == 0); }
  void put_text(int type, const std::string& value) {
    CHECK(nla_put_string(get(), type, value.c_str()) == 0);
  }
  void put_bytes(int type, const void* data, std::size_t size) {
    CHECK(nla_put(get(), type, static_cast<int>(size), data) == 0);
  }

  template <class Fill>
  void nest(int type, const Fill& fill) {
    nlattr* start = nla_nest_start(get(), type);
    CHECK(start != nullptr);
    fill();
    nla_nest_end(get(), start);
  }

  [[nodiscard]] Bytes take() const {
    const nlmsghdr* header = nlmsg_hdr(get());
    const auto* data = static_cast<const std::uint8_t*>(nlmsg_data(header));
    return {data, data + nlmsg_datalen(header)};
  }

 private:
  [[nodiscard]] nl_msg* get() const { return message_.get(); }

  MessagePointer message_;
};

void put_key(Builder& to, const ServiceKey& key) {
  to.put_u16(IPVS_SVC_ATTR_AF, key.address.family);
  if (key.fwmark != 0) return to.put_u32(IPVS_SVC_ATTR_FWMARK, key.fwmark);
  to.put_u16(IPVS_SVC_ATTR_PROTOCOL, key.protocol);
  to.put_bytes(IPVS_SVC_ATTR_ADDR, key.address.ip.data(), kAddressBytes);
  to.put_u16(IPVS_SVC_ATTR_PORT, htons(key.address.port));
}

/// IPv4: a mask in network order; IPv6: the length of the prefix.
std::uint32_t netmask(bool v6, unsigned prefix) {
  if (v6) return prefix;
  return prefix == 0 ? 0 : htonl(0xffffffffU << (32 - prefix));
}

void put_settings(Builder& to, const ServiceKey& key, const ServiceSettings& settings) {
  to.put_text(IPVS_SVC_ATTR_SCHED_NAME, settings.scheduler);
  ip_vs_flags flags{.flags = settings.flags & kFlagsOurs, .mask = 0xffffffffU};
  if (settings.persistence) flags.flags |= IP_VS_SVC_F_PERSISTENT;
  to.put_bytes(IPVS_SVC_ATTR_FLAGS, &flags, sizeof flags);
  const bool v6 = key.address.is_v6();
  const Persistence persistence =
      settings.persistence.value_or(Persistence{0, static_cast<std::uint8_t>(v6 ? 128 : 32)});
  to.put_u32(IPVS_SVC_ATTR_TIMEOUT, persistence.timeout_s);
  to.put_u32(IPVS_SVC_ATTR_NETMASK, netmask(v6, persistence.prefix));
}

std::uint32_t method_bits(Method method) {
  switch (method) {
    case Method::nat:
      return IP_VS_CONN_F_MASQ;
    case Method::direct:
      return IP_VS_CONN_F_DROUTE;
    case Method::tunnel:
      return IP_VS_CONN_F_TUNNEL;
    case Method::other:
      break;
  }
  CHECK(false);
}

void put_destination(Builder& to, const Address& address, const Destination* destination) {
  to.put_u16(IPVS_DEST_ATTR_ADDR_FAMILY, address.family);
  to.put_bytes(IPVS_DEST_ATTR_ADDR, address.ip.data(), kAddressBytes);
  to.put_u16(IPVS_DEST_ATTR_PORT, htons(address.port));
  if (destination == nullptr) return;
  to.put_u32(IPVS_DEST_ATTR_FWD_METHOD, method_bits(destination->method));
  to.put_u32(IPVS_DEST_ATTR_WEIGHT, destination->weight);
  to.put_u32(IPVS_DEST_ATTR_U_THRESH, destination->max);
  to.put_u32(IPVS_DEST_ATTR_L_THRESH, destination->resume);
}

Request about_service(std::uint8_t command, const ServiceKey& key) {
  Builder builder;
  builder.nest(IPVS_CMD_ATTR_SERVICE, [&] { put_key(builder, key); });
  return {command, builder.take()};
}

}  // namespace

// ---- to the kernel

Request request_for(const Change& change) {
  using Kind = Change::Kind;
  const auto with_service = [&](std::uint8_t command) {
    Builder builder;
    builder.nest(IPVS_CMD_ATTR_SERVICE, [&] {
      put_key(builder, change.service);
      put_settings(builder, change.service, change.settings);
    });
    return Request{command, builder.take()};
  };
  const auto with_destination = [&](std::uint8_t command, const Destination* destination) {
    Builder builder;
    builder.nest(IPVS_CMD_ATTR_SERVICE, [&] { put_key(builder, change.service); });
    builder.nest(IPVS_CMD_ATTR_DEST,
                 [&] { put_destination(builder, change.address, destination); });
    return Request{command, builder.take()};
  };
  switch (change.kind) {
    case Kind::new_service:
      return with_service(IPVS_CMD_NEW_SERVICE);
    case Kind::set_service:
      return with_service(IPVS_CMD_SET_SERVICE);
    case Kind::delete_service:
      return about_service(IPVS_CMD_DEL_SERVICE, change.service);
    case Kind::new_destination:
      return with_destination(IPVS_CMD_NEW_DEST, &change.destination);
    case Kind::set_destination:
      return with_destination(IPVS_CMD_SET_DEST, &change.destination);
    case Kind::delete_destination:
      return with_destination(IPVS_CMD_DEL_DEST, nullptr);
  }
  CHECK(false);
}

Request request_services() {
  return {IPVS_CMD_GET_SERVICE, {}};
}

Request request_service(const ServiceKey& service) {
  return about_service(IPVS_CMD_GET_SERVICE, service);
}

Request request_destinations(const ServiceKey& service) {
  return about_service(IPVS_CMD_GET_DEST, service);
}

Request request_timeouts() {
  return {IPVS_CMD_GET_CONFIG, {}};
}

Request request_set_timeouts(const Timeouts& timeouts) {
  Builder builder;
  if (timeouts.tcp_s != 0) builder.put_u32(IPVS_CMD_ATTR_TIMEOUT_TCP, timeouts.tcp_s);
  if (timeouts.tcp_fin_s != 0) builder.put_u32(IPVS_CMD_ATTR_TIMEOUT_TCP_FIN, timeouts.tcp_fin_s);
  return {IPVS_CMD_SET_CONFIG, builder.take()};
}

Request request_daemons() {
  return {IPVS_CMD_GET_DAEMON, {}};
}

Request request_start(const SyncDaemon& daemon) {
  Builder builder;
  builder.nest(IPVS_CMD_ATTR_DAEMON, [&] {
    builder.put_u32(IPVS_DAEMON_ATTR_STATE,
                    daemon.master ? IP_VS_STATE_MASTER : IP_VS_STATE_BACKUP);
    builder.put_text(IPVS_DAEMON_ATTR_MCAST_IFN, daemon.interface);
    builder.put_u32(IPVS_DAEMON_ATTR_SYNC_ID, daemon.id);
  });
  return {IPVS_CMD_NEW_DAEMON, builder.take()};
}

Request request_stop(const SyncDaemon& daemon) {
  Builder builder;
  builder.nest(IPVS_CMD_ATTR_DAEMON, [&] {
    builder.put_u32(IPVS_DAEMON_ATTR_STATE,
                    daemon.master ? IP_VS_STATE_MASTER : IP_VS_STATE_BACKUP);
  });
  return {IPVS_CMD_DEL_DAEMON, builder.take()};
}

void append(Bytes& datagram, const Request& request, std::uint16_t family, std::uint16_t flags,
            std::uint32_t sequence) {
  nlmsghdr header{};
  genlmsghdr generic{};
  header.nlmsg_len =
      static_cast<std::uint32_t>(NLMSG_HDRLEN + GENL_HDRLEN + request.attributes.size());
  header.nlmsg_type = family;
  header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  header.nlmsg_seq = sequence;
  generic.cmd = request.command;
  generic.version = IPVS_GENL_VERSION;
  const std::size_t at = datagram.size();
  datagram.resize(at + NLMSG_ALIGN(header.nlmsg_len));
  std::memcpy(&datagram[at], &header, sizeof header);
  std::memcpy(&datagram[at + NLMSG_HDRLEN], &generic, sizeof generic);
  if (!request.attributes.empty())
    std::memcpy(&datagram[at + NLMSG_HDRLEN + GENL_HDRLEN], request.attributes.data(),
                request.attributes.size());
}

// ---- from the kernel

namespace {

/// One level of attributes, by type.
class Attributes {
 public:
  /// False: not attributes at all.
  bool parse(int max, std::span<const std::uint8_t> bytes) {
    if (bytes.size() > kBytesMax) return false;
    // libnl reads, but takes it without const.
    auto* head = const_cast<nlattr*>(reinterpret_cast<const nlattr*>(bytes.data()));
    return nla_parse(table_.data(), max, head, static_cast<int>(bytes.size()), nullptr) == 0;
  }

  /// The bytes of an attribute that is there and at least so long.
  [[nodiscard]] std::optional<std::span<const std::uint8_t>> bytes(int type,
                                                                   std::size_t size = 0) const {
    const nlattr* at = table_[static_cast<std::size_t>(type)];
    if (at == nullptr || nla_len(at) < 0 || static_cast<std::size_t>(nla_len(at)) < size) return {};
    return std::span(static_cast<const std::uint8_t*>(nla_data(at)),
                     static_cast<std::size_t>(nla_len(at)));
  }

  template <class Number>
  [[nodiscard]] std::optional<Number> number(int type) const {
    const auto found = bytes(type, sizeof(Number));
    if (!found) return {};
    Number value;
    std::memcpy(&value, found->data(), sizeof value);
    return value;
  }

  /// Up to the first NUL; nothing when longer than `max`.
  [[nodiscard]] std::optional<std::string> text(int type, std::size_t max) const {
    const auto found = bytes(type);
    if (!found) return {};
    std::string value(reinterpret_cast<const char*>(found->data()), found->size());
    value.resize(std::min(value.find('\0'), value.size()));
    if (value.size() > max) return {};
    return value;
  }

 private:
  static constexpr std::size_t kBytesMax = 65535, kTypes = 16;
  static_assert(IPVS_CMD_ATTR_MAX < kTypes && IPVS_SVC_ATTR_MAX < kTypes &&
                IPVS_DEST_ATTR_MAX < kTypes && IPVS_DAEMON_ATTR_MAX < kTypes &&
                IPVS_STATS_ATTR_MAX < kTypes);
  std::array<nlattr*, kTypes> table_{};
};

std::optional<Address> address_of(std::uint8_t family,
                                  std::optional<std::span<const std::uint8_t>> ip,
                                  std::optional<std::uint16_t> port) {
  if (!ip || !port) return {};
  Address address;
  address.family = family;
  std::memcpy(address.ip.data(), ip->data(), address.is_v4() ? 4 : kAddressBytes);
  address.port = ntohs(*port);
  return address;
}

/// The prefix a mask stands for; nothing when its bits are not in a row.
std::optional<std::uint8_t> prefix_of(bool v6, std::uint32_t mask) {
  if (v6) {
    if (mask < 1 || mask > 128) return {};
    return static_cast<std::uint8_t>(mask);
  }
  for (unsigned prefix = 0; prefix <= 32; ++prefix)
    if (netmask(false, prefix) == mask) return static_cast<std::uint8_t>(prefix);
  return {};
}

/// The attributes that a reply has inside its `type`; nothing when it has none.
std::optional<Attributes> inside(int type, int max, std::span<const std::uint8_t> reply) {
  Attributes command, found;
  if (!command.parse(IPVS_CMD_ATTR_MAX, reply)) return {};
  const auto nested = command.bytes(type);
  if (!nested || !found.parse(max, *nested)) return {};
  return found;
}

std::optional<std::uint8_t> family_of(std::optional<std::uint16_t> number) {
  if (!number || (*number != AF_INET && *number != AF_INET6)) return {};
  return static_cast<std::uint8_t>(*number);
}

Traffic traffic_of(std::optional<std::span<const std::uint8_t>> nested) {
  Traffic traffic;
  Attributes stats;
  if (!nested || !stats.parse(IPVS_STATS_ATTR_MAX, *nested)) return traffic;
  const auto read = [&](int type, std::uint64_t& into) {
    into = stats.number<std::uint64_t>(type).value_or(0);
  };
  read(IPVS_STATS_ATTR_CONNS, traffic.connections);
  read(IPVS_STATS_ATTR_INPKTS, traffic.packets_in);
  read(IPVS_STATS_ATTR_OUTPKTS, traffic.packets_out);
  read(IPVS_STATS_ATTR_INBYTES, traffic.bytes_in);
  read(IPVS_STATS_ATTR_OUTBYTES, traffic.bytes_out);
  read(IPVS_STATS_ATTR_CPS, traffic.connections_per_s);
  read(IPVS_STATS_ATTR_INPPS, traffic.packets_in_per_s);
  read(IPVS_STATS_ATTR_OUTPPS, traffic.packets_out_per_s);
  read(IPVS_STATS_ATTR_INBPS, traffic.bytes_in_per_s);
  read(IPVS_STATS_ATTR_OUTBPS, traffic.bytes_out_per_s);
  return traffic;
}

Method method_of(std::uint32_t bits) {
  switch (bits & IP_VS_CONN_F_FWD_MASK) {
    case IP_VS_CONN_F_MASQ:
      return Method::nat;
    case IP_VS_CONN_F_DROUTE:
      return Method::direct;
    case IP_VS_CONN_F_TUNNEL:
      return Method::tunnel;
    default:
      return Method::other;
  }
}

}  // namespace

std::optional<ServiceReply> decode_service(std::span<const std::uint8_t> attributes) {
  const auto service = inside(IPVS_CMD_ATTR_SERVICE, IPVS_SVC_ATTR_MAX, attributes);
  if (!service) return {};
  ServiceReply reply;
  const auto family = family_of(service->number<std::uint16_t>(IPVS_SVC_ATTR_AF));
  if (!family) return {};
  if (const auto mark = service->number<std::uint32_t>(IPVS_SVC_ATTR_FWMARK); mark && *mark != 0) {
    reply.key = ServiceKey::marked(*mark, *family);
  } else {
    const auto protocol = service->number<std::uint16_t>(IPVS_SVC_ATTR_PROTOCOL);
    const auto address = address_of(*family, service->bytes(IPVS_SVC_ATTR_ADDR, kAddressBytes),
                                    service->number<std::uint16_t>(IPVS_SVC_ATTR_PORT));
    if (!protocol || *protocol > 255 || !address) return {};
    reply.key = {.address = *address, .protocol = static_cast<std::uint8_t>(*protocol)};
  }

  const auto scheduler = service->text(IPVS_SVC_ATTR_SCHED_NAME, IP_VS_SCHEDNAME_MAXLEN - 1);
  const auto flags = service->number<ip_vs_flags>(IPVS_SVC_ATTR_FLAGS);
  if (!scheduler || !flags) return {};
  reply.settings.scheduler = *scheduler;
  reply.settings.flags = flags->flags & kFlagsOurs;
  if ((flags->flags & IP_VS_SVC_F_PERSISTENT) != 0) {
    const auto timeout = service->number<std::uint32_t>(IPVS_SVC_ATTR_TIMEOUT);
    const auto mask = service->number<std::uint32_t>(IPVS_SVC_ATTR_NETMASK);
    if (!timeout || !mask) return {};
    // A mask with holes is none of ours: prefix 0 differs from all that we set.
    reply.settings.persistence = {
        *timeout, prefix_of(reply.key.address.is_v6(), *mask).value_or(std::uint8_t{0})};
  }
  reply.traffic = traffic_of(service->bytes(IPVS_SVC_ATTR_STATS64));
  return reply;
}

std::optional<DestinationReply> decode_destination(std::span<const std::uint8_t> attributes,
                                                   std::uint8_t service_family) {
  const auto destination = inside(IPVS_CMD_ATTR_DEST, IPVS_DEST_ATTR_MAX, attributes);
  if (!destination) return {};
  const auto family = family_of(
      destination->number<std::uint16_t>(IPVS_DEST_ATTR_ADDR_FAMILY).value_or(service_family));
  if (!family) return {};
  const auto address = address_of(*family, destination->bytes(IPVS_DEST_ATTR_ADDR, kAddressBytes),
                                  destination->number<std::uint16_t>(IPVS_DEST_ATTR_PORT));
  const auto method = destination->number<std::uint32_t>(IPVS_DEST_ATTR_FWD_METHOD);
  const auto weight = destination->number<std::uint32_t>(IPVS_DEST_ATTR_WEIGHT);
  if (!address || !method || !weight) return {};
  const auto number = [&](int type) {
    return destination->number<std::uint32_t>(type).value_or(0);
  };
  DestinationReply reply;
  reply.address = *address;
  reply.destination = {.method = method_of(*method),
                       .weight = *weight,
                       .max = number(IPVS_DEST_ATTR_U_THRESH),
                       .resume = number(IPVS_DEST_ATTR_L_THRESH)};
  reply.use = {.active = number(IPVS_DEST_ATTR_ACTIVE_CONNS),
               .inactive = number(IPVS_DEST_ATTR_INACT_CONNS),
               .persistent = number(IPVS_DEST_ATTR_PERSIST_CONNS),
               .traffic = traffic_of(destination->bytes(IPVS_DEST_ATTR_STATS64))};
  return reply;
}

std::optional<Timeouts> decode_timeouts(std::span<const std::uint8_t> attributes) {
  Attributes command;
  if (!command.parse(IPVS_CMD_ATTR_MAX, attributes)) return {};
  const auto tcp = command.number<std::uint32_t>(IPVS_CMD_ATTR_TIMEOUT_TCP);
  const auto fin = command.number<std::uint32_t>(IPVS_CMD_ATTR_TIMEOUT_TCP_FIN);
  if (!tcp || !fin) return {};
  return Timeouts{*tcp, *fin};
}

std::optional<SyncDaemon> decode_daemon(std::span<const std::uint8_t> attributes) {
  const auto daemon = inside(IPVS_CMD_ATTR_DAEMON, IPVS_DAEMON_ATTR_MAX, attributes);
  if (!daemon) return {};
  const auto state = daemon->number<std::uint32_t>(IPVS_DAEMON_ATTR_STATE);
  const auto interface = daemon->text(IPVS_DAEMON_ATTR_MCAST_IFN, IP_VS_IFNAME_MAXLEN - 1);
  const auto id = daemon->number<std::uint32_t>(IPVS_DAEMON_ATTR_SYNC_ID);
  if (!state || !interface || !id) return {};
  if (*state != IP_VS_STATE_MASTER && *state != IP_VS_STATE_BACKUP) return {};
  return SyncDaemon{*state == IP_VS_STATE_MASTER, *interface, *id};
}

bool for_each_message(std::span<const std::uint8_t> datagram,
                      const std::function<void(const Message&)>& take) {
  while (datagram.size() >= NLMSG_HDRLEN) {
    nlmsghdr header;
    std::memcpy(&header, datagram.data(), sizeof header);
    if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > datagram.size()) return false;
    const auto body = datagram.subspan(NLMSG_HDRLEN, header.nlmsg_len - NLMSG_HDRLEN);
    Message message;
    message.sequence = header.nlmsg_seq;
    message.interrupted = (header.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
    if (header.nlmsg_type == NLMSG_ERROR || header.nlmsg_type == NLMSG_DONE) {
      std::int32_t error = 0;
      if (header.nlmsg_type == NLMSG_ERROR && body.size() < sizeof error) return false;
      if (body.size() >= sizeof error) std::memcpy(&error, body.data(), sizeof error);
      // The kernel says -ENOENT; anything else that is no errno is no answer.
      if (error > 0 || error < -4095) return false;
      message.error = -error;
      message.kind = header.nlmsg_type == NLMSG_DONE && error == 0 ? Message::Kind::done
                                                                   : Message::Kind::error;
      take(message);
    } else if (header.nlmsg_type >= NLMSG_MIN_TYPE) {
      if (body.size() < GENL_HDRLEN) return false;
      message.command = body[0];
      message.attributes = body.subspan(GENL_HDRLEN);
      take(message);
    }
    datagram =
        datagram.subspan(std::min<std::size_t>(NLMSG_ALIGN(header.nlmsg_len), datagram.size()));
  }
  return datagram.empty();
}

}  // namespace poise::ipvs
