#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "admin/requests.h"
#include "log/log.h"
#include "net/fd.h"
#include "poise/config.h"
#include "poise/result.h"

namespace poise::admin {

/// The control socket: a unix stream, a request a line, an answer a line, in order. One thread
/// serves all clients; requests run in control's thread.
///
/// Bounds: kClientsMax clients (the one silent for longest makes room), kLineBytesMax a request,
/// one request under way a client, kSilence without one. Who may connect is said by the file's mode
/// and group; the other end's uid, as the kernel has it, says who it is and whether it may change
/// things.
class ControlSocket {
 public:
  static constexpr std::size_t kClientsMax = 100;
  static constexpr std::size_t kLineBytesMax = 64 * 1024;
  static constexpr std::chrono::seconds kSilence{300};

  ControlSocket(Requests& requests, log::Log& log) : requests_(requests), log_(log) {}
  ~ControlSocket();  ///< ends the thread, removes the file
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;

  Result<void> start(const config::Admin& admin);

 private:
  using Clock = std::chrono::steady_clock;
  /// Log::limited()'s number.
  static constexpr std::size_t kLogAccept = 61;
  struct Client {
    net::Fd fd;
    Caller caller;
    std::string in, out;
    bool busy = false;  ///< a request is under way
    bool ended = false;
    Clock::time_point last{};
  };
  /// Answers on their way from control's thread; outlives the socket if need be.
  struct Mailbox {
    std::mutex mutex;
    std::vector<std::pair<std::uint64_t, std::string>> answers;
    net::Fd wake;
  };

  Result<void> listen(const config::Admin& admin);
  void run();
  bool accept();
  void read(std::uint64_t number, Client& client);
  void next_request(std::uint64_t number, Client& client);
  void write(Client& client);
  void deliver();
  void forget_silent();
  [[nodiscard]] Caller caller_of(int fd) const;

  Requests& requests_;
  log::Log& log_;
  std::string path_;
  std::uint64_t inode_ = 0;
  std::uint32_t group_ = UINT32_MAX;
  net::Fd listener_;
  std::shared_ptr<Mailbox> mailbox_;
  std::map<std::uint64_t, Client> clients_;
  std::uint64_t last_number_ = 0;
  bool stopping_ = false;  ///< guarded by the mailbox's mutex
  std::thread thread_;
};

/// Makes the folder of the control socket when only that is missing, and gives it to `user`: before
/// the uid changes. Failing is left to ControlSocket::start().
void prepare_folder(const std::string& socket_path, const std::string& user);

}  // namespace poise::admin
