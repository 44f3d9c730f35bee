#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/fd.h"
#include "pair/messages.h"
#include "poise/address.h"
#include "poise/config.h"
#include "poise/result.h"

/// What keepalived does with this box's addresses.
namespace poise::pair {

/// A line of keepalived's notify FIFO: `INSTANCE "mail" MASTER 150`; none for groups and what else
/// there is. STOP and unknown words are Role::unknown.
struct Notice {
  std::string instance;
  Role role = Role::unknown;
};
std::optional<Notice> parse_notice(std::string_view line);

/// What is true of an instance. The addresses themselves have the first word: what keepalived last
/// said may be old, or said before we began to listen.
///   has: one of its addresses is on this machine; there: keepalived has the FIFO open; said: its
///   last word; serves: what we tell keepalived of ourselves.
Role role_of(bool has, bool there, std::optional<Role> said, bool serves);

/// This machine's addresses, ports 0.
std::vector<Address> local_addresses();

/// Reads the FIFO and the machine's addresses. One thread.
class VrrpWatch {
 public:
  /// Makes the FIFO when there is none.
  Result<void> open(const std::string& fifo);
  void configure(const std::vector<config::Vrrp>& instances) { instances_ = instances; }

  /// To be polled for reading; look() when it is ready, and now and then.
  [[nodiscard]] int fd() const { return fifo_.get(); }
  /// Reads what there is; true: roles() are others than before.
  bool look(bool serves);

  /// keepalived has the FIFO open.
  [[nodiscard]] bool there() const { return there_; }

  struct Instance {
    std::string name;
    Role role = Role::unknown;
    bool operator==(const Instance&) const = default;
  };
  [[nodiscard]] const std::vector<Instance>& roles() const { return roles_; }

 private:
  void read_fifo();

  std::vector<config::Vrrp> instances_;
  net::Fd fifo_;
  std::string rest_;
  bool there_ = false;
  std::map<std::string, Role> said_;
  std::vector<Instance> roles_;
};

/// Of all instances as one: master if any is, else fault if any is, else backup.
Role whole(const std::vector<VrrpWatch::Instance>& roles);

}  // namespace poise::pair
