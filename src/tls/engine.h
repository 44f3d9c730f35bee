#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "poise/address.h"
#include "poise/tls_facts.h"
#include "tls/context.h"

struct ssl_st;
struct bio_st;

namespace poise::tls {

/// One TLS connection without a socket: ciphertext goes in and out as bytes, plaintext too. Holds
/// at most kMaxPendingBytes of either kind; the caller that takes what is there never meets the
/// limit. Belongs to one thread.
class Engine {
 public:
  static constexpr std::size_t kMaxPendingBytes = std::size_t{256} * 1024;

  enum class State : std::uint8_t {
    handshaking,
    open,
    closed,  ///< the peer has said that it is done (close_notify)
    failed,  ///< see error(); nothing more goes in or out but the alert that is pending
  };

  /// A client. `server_name`: sent as SNI and what the certificate must be for; empty: no SNI, and
  /// the certificate must be for `address`. Verification is always done and never ends the
  /// handshake: facts() says what came of it.
  Engine(std::shared_ptr<const Context> context, const std::string& server_name,
         const Address& address);
  /// A server, with the context's certificate. Clients are not asked for theirs.
  explicit Engine(std::shared_ptr<const Context> context);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Begins the handshake; a client's take_ciphertext() then has the first bytes for the peer.
  void start();
  /// Bytes from the peer.
  void receive(std::string_view ciphertext);
  /// Appends what is to be sent to the peer.
  void take_ciphertext(std::string& out);
  /// Appends what the peer said, decrypted.
  void take_plaintext(std::string& out);
  /// Encrypts; only when open.
  void send(std::string_view plaintext);
  /// Says close_notify.
  void close();

  [[nodiscard]] State state() const { return state_; }
  /// A sentence: "the server answered the TLS handshake in plaintext: 220 mx1 ESMTP".
  [[nodiscard]] const std::string& error() const { return error_; }
  /// Of an open connection.
  [[nodiscard]] TlsFacts facts() const;

 private:
  struct Free {
    void operator()(ssl_st* ssl) const;
  };

  void make_buffers();
  void advance();
  void fail(std::string why);

  std::shared_ptr<const Context> context_;
  std::unique_ptr<ssl_st, Free> ssl_;
  bio_st* in_ = nullptr;   ///< owned by ssl_
  bio_st* out_ = nullptr;  ///< owned by ssl_
  State state_ = State::handshaking;
  std::string plaintext_;
  std::string error_;
  bool heard_ = false;
};

}  // namespace poise::tls
