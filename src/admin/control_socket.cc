#include "admin/control_socket.h"

#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace poise::admin {

using config::LogLevel;

namespace {

Error failed(const std::string& path, const std::string& what, int error,
             const std::string& hint = {}) {
  return Error{"admin.socket " + path, fmt::format("{}: {}{}{}", what, std::strerror(error),
                                                   hint.empty() ? "" : "; ", hint)};
}

std::string user_name(uid_t uid) {
  std::array<char, 4096> buffer;
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr)
    return found->pw_name;
  return fmt::format("uid {}", uid);
}

Result<gid_t> group_id(const std::string& name) {
  std::array<char, 16384> buffer;
  group entry{};
  group* found = nullptr;
  if (::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) == 0 &&
      found != nullptr)
    return found->gr_gid;
  return Error{"admin.group", fmt::format("there is no group \"{}\"", name)};
}

bool somebody_answers(const sockaddr_un& address) {
  const net::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return fd &&
         ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace

void prepare_folder(const std::string& socket_path, const std::string& user) {
  const std::string folder = socket_path.substr(0, socket_path.rfind('/'));
  if (folder.empty() || ::mkdir(folder.c_str(), 0755) != 0 || user.empty()) return;
  std::array<char, 4096> buffer;
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwnam_r(user.c_str(), &entry, buffer.data(), buffer.size(), &found) == 0 &&
      found != nullptr)
    static_cast<void>(!::chown(folder.c_str(), found->pw_uid, found->pw_gid));
}

ControlSocket::~ControlSocket() {
  if (thread_.joinable()) {
    {
      const std::lock_guard lock(mailbox_->mutex);
      stopping_ = true;
    }
    ::eventfd_write(mailbox_->wake.get(), 1);
    thread_.join();
  }
  struct stat status {};
  if (!path_.empty() && ::stat(path_.c_str(), &status) == 0 && status.st_ino == inode_)
    ::unlink(path_.c_str());
}

Result<void> ControlSocket::start(const config::Admin& admin) {
  mailbox_ = std::make_shared<Mailbox>();
  mailbox_->wake = net::Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!mailbox_->wake) return failed(admin.socket, "eventfd", errno);
  if (auto listening = listen(admin); !listening) return listening;
  thread_ = std::thread([this] { run(); });
  ::pthread_setname_np(thread_.native_handle(), "control-socket");
  return {};
}

Result<void> ControlSocket::listen(const config::Admin& admin) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (admin.socket.size() >= sizeof address.sun_path)
    return failed(admin.socket, "path", ENAMETOOLONG);
  std::memcpy(address.sun_path, admin.socket.c_str(), admin.socket.size() + 1);
  struct stat status {};
  if (::lstat(admin.socket.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) return failed(admin.socket, "it is there", EEXIST, "remove it");
    if (somebody_answers(address))
      return failed(admin.socket, "another poised answers there", EADDRINUSE,
                    "stop it, or set \"admin\": {\"socket\": ...} to another path or \"off\"");
    ::unlink(admin.socket.c_str());  // of one that crashed
  }
  gid_t group = ::getegid();
  if (!admin.group.empty()) {
    const auto found = group_id(admin.group);
    if (!found) return found.error();
    group = *found;
  }
  listener_ = net::Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_) return failed(admin.socket, "socket", errno);
  if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;  // user_name() changes it
    return failed(admin.socket, "bind", error,
                  fmt::format("make a folder for it that {} can write to, or set \"admin\": "
                              "{{\"socket\": ...}} to another path or \"off\"",
                              user_name(::geteuid())));
  }
  path_ = admin.socket;
  // Nobody can connect before listen(), so the time with the wrong mode does no harm.
  if (!admin.group.empty() && ::chown(path_.c_str(), static_cast<uid_t>(-1), group) != 0)
    return failed(path_, fmt::format("give it to group {}", admin.group), errno,
                  fmt::format("{} must be a member of it", user_name(::geteuid())));
  if (::chmod(path_.c_str(), admin.mode) != 0) return failed(path_, "chmod", errno);
  if (::stat(path_.c_str(), &status) == 0) inode_ = status.st_ino;
  if (!admin.group.empty()) group_ = group;
  if (::listen(listener_.get(), 1024) != 0) return failed(path_, "listen", errno);
  return {};
}

Caller ControlSocket::caller_of(int fd) const {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return {};
  Caller caller{.user = user_name(peer.uid), .admin = peer.uid == 0 || peer.uid == ::geteuid()};
  if (!caller.admin && group_ != UINT32_MAX) {
    std::array<gid_t, 1024> groups{};
    length = sizeof groups;
    caller.admin = peer.gid == group_;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length) == 0)
      caller.admin = caller.admin ||
                     std::find(groups.begin(), groups.begin() + length / sizeof(gid_t), group_) !=
                         groups.begin() + length / sizeof(gid_t);
  }
  return caller;
}

// ---- the thread ----

void ControlSocket::run() {
  for (;;) {
    std::vector<pollfd> polls{{mailbox_->wake.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    std::vector<std::uint64_t> numbers;
    for (const auto& [number, client] : clients_) {
      short events = 0;
      if (!client.busy && client.out.empty()) events = POLLIN;
      if (!client.out.empty()) events = POLLOUT;
      polls.push_back({client.fd.get(), events, 0});
      numbers.push_back(number);
    }
    ::poll(polls.data(), polls.size(), 10'000);
    {
      const std::lock_guard lock(mailbox_->mutex);
      if (stopping_) return;
    }
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      Client& client = clients_.at(numbers[i]);
      const short ready = polls[i + 2].revents;
      if ((ready & POLLOUT) != 0)
        write(client);
      else if ((ready & POLLIN) != 0)
        read(numbers[i], client);
      else if ((ready & (POLLHUP | POLLERR)) != 0)
        client.ended = true;
    }
    deliver();
    if (polls[1].revents != 0)
      for (std::size_t i = 0; i < kClientsMax && accept(); ++i) {
      }
    forget_silent();
    std::erase_if(clients_, [](const auto& each) { return each.second.ended; });
  }
}

/// False when nobody waits.
bool ControlSocket::accept() {
  net::Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      log_.limited(kLogAccept, LogLevel::warning, "control socket: accept: {}",
                   std::strerror(errno));
      ::usleep(10'000);  // it stays readable
    }
    return false;
  }
  if (clients_.size() >= kClientsMax) {
    const auto oldest = std::min_element(
        clients_.begin(), clients_.end(),
        [](const auto& a, const auto& b) { return a.second.last < b.second.last; });
    clients_.erase(oldest);
  }
  Client client;
  client.caller = caller_of(fd.get());
  client.fd = std::move(fd);
  client.last = Clock::now();
  clients_.emplace(++last_number_, std::move(client));
  return true;
}

void ControlSocket::read(std::uint64_t number, Client& client) {
  std::array<char, 16384> block;
  const ssize_t got = ::read(client.fd.get(), block.data(), block.size());
  if (got <= 0) {
    client.ended = got == 0 || (errno != EAGAIN && errno != EINTR);
    return;
  }
  client.last = Clock::now();
  client.in.append(block.data(), static_cast<std::size_t>(got));
  next_request(number, client);
}

void ControlSocket::next_request(std::uint64_t number, Client& client) {
  const std::size_t end = client.in.find('\n');
  if (end == std::string::npos) {
    if (client.in.size() <= kLineBytesMax) return;
    client.out = "{\"ok\":false,\"error\":\"a request is a line of 64 KiB at most\",\"code\":2}\n";
    client.in.clear();
    write(client);
    client.ended = true;
    return;
  }
  const std::string line = client.in.substr(0, end);
  client.in.erase(0, end + 1);
  client.busy = true;
  const std::weak_ptr<Mailbox> mailbox = mailbox_;
  requests_.handle_line(line, client.caller, [mailbox, number](const Json& answer) {
    const auto box = mailbox.lock();
    if (!box) return;
    {
      const std::lock_guard lock(box->mutex);
      box->answers.emplace_back(number, text_of(answer) + "\n");
    }
    ::eventfd_write(box->wake.get(), 1);
  });
}

void ControlSocket::write(Client& client) {
  const ssize_t sent =
      ::send(client.fd.get(), client.out.data(), client.out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) {
    client.ended = errno != EAGAIN && errno != EINTR;
    return;
  }
  client.last = Clock::now();
  client.out.erase(0, static_cast<std::size_t>(sent));
}

void ControlSocket::deliver() {
  eventfd_t rings = 0;
  ::eventfd_read(mailbox_->wake.get(), &rings);
  std::vector<std::pair<std::uint64_t, std::string>> answers;
  {
    const std::lock_guard lock(mailbox_->mutex);
    answers.swap(mailbox_->answers);
  }
  for (auto& [number, text] : answers) {
    const auto at = clients_.find(number);
    if (at == clients_.end()) continue;  // it did not wait
    Client& client = at->second;
    client.busy = false;
    client.out += text;
    write(client);
    if (!client.ended) next_request(number, client);
  }
}

void ControlSocket::forget_silent() {
  const auto now = Clock::now();
  for (auto& [number, client] : clients_)
    if (!client.busy && now - client.last > kSilence) client.ended = true;
}

}  // namespace poise::admin
