#include "pair/vrrp.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace poise::pair {

std::optional<Notice> parse_notice(std::string_view line) {
  constexpr std::string_view kBegin = "INSTANCE \"";
  if (!line.starts_with(kBegin)) return std::nullopt;
  line.remove_prefix(kBegin.size());
  const std::size_t end = line.find("\" ");
  if (end == line.npos) return std::nullopt;
  std::string_view word = line.substr(end + 2);
  word = word.substr(0, word.find(' '));
  const Role role = word == "MASTER"   ? Role::master
                    : word == "BACKUP" ? Role::backup
                    : word == "FAULT"  ? Role::fault
                                       : Role::unknown;
  return Notice{.instance = std::string(line.substr(0, end)), .role = role};
}

Role role_of(bool has, bool there, std::optional<Role> said, bool serves) {
  if (has) return Role::master;
  if (!there) return Role::unknown;
  if (!serves || said == Role::fault) return Role::fault;
  if (said == Role::unknown) return Role::unknown;
  return Role::backup;
}

std::vector<Address> local_addresses() {
  std::vector<Address> found;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return found;
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr) continue;
    const int family = each->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    sockaddr_storage storage{};
    std::memcpy(&storage, each->ifa_addr,
                family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    found.push_back(Address::from_sockaddr(storage));
    found.back().port = 0;
  }
  ::freeifaddrs(list);
  return found;
}

Result<void> VrrpWatch::open(const std::string& fifo) {
  if (::mkfifo(fifo.c_str(), 0600) != 0 && errno != EEXIST)
    return Error{fifo, std::strerror(errno)};
  fifo_ = net::Fd(::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  struct stat status {};
  if (!fifo_ || ::fstat(fifo_.get(), &status) != 0) return Error{fifo, std::strerror(errno)};
  if (!S_ISFIFO(status.st_mode)) return Error{fifo, "is no FIFO: remove it"};
  return {};
}

void VrrpWatch::read_fifo() {
  std::array<char, 4096> block;
  for (;;) {
    const ssize_t got = ::read(fifo_.get(), block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    there_ = got > 0 || (got < 0 && errno == EAGAIN);  // the end: nobody has it open for writing
    if (!there_) said_.clear();
    if (got <= 0) return;
    rest_.append(block.data(), static_cast<std::size_t>(got));
    std::size_t end = 0;
    while ((end = rest_.find('\n')) != rest_.npos) {
      if (auto notice = parse_notice(std::string_view(rest_).substr(0, end)))
        said_[notice->instance] = notice->role;
      rest_.erase(0, end + 1);
    }
    if (rest_.size() > block.size()) rest_.clear();  // no line of keepalived's
  }
}

bool VrrpWatch::look(bool serves) {
  read_fifo();
  const std::vector<Address> local = local_addresses();
  std::vector<Instance> roles;
  for (const config::Vrrp& each : instances_) {
    const bool has = std::any_of(
        each.virtual_addresses.begin(), each.virtual_addresses.end(), [&](const auto& address) {
          return std::find(local.begin(), local.end(), address.address) != local.end();
        });
    const auto said = said_.find(each.name);
    roles.push_back(
        {.name = each.name,
         .role = role_of(has, there_,
                         said == said_.end() ? std::nullopt : std::optional<Role>(said->second),
                         serves)});
  }
  return std::exchange(roles_, std::move(roles)) != roles_;
}

Role whole(const std::vector<VrrpWatch::Instance>& roles) {
  const auto any = [&roles](Role role) {
    return std::any_of(roles.begin(), roles.end(),
                       [role](const auto& each) { return each.role == role; });
  };
  for (const Role role : {Role::master, Role::fault, Role::backup})
    if (any(role)) return role;
  return Role::unknown;
}

}  // namespace poise::pair
