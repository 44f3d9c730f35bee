#pragma once

#include <memory>
#include <string>

#include "poise/result.h"

struct ssl_ctx_st;

namespace poise::tls {

/// What many connections share: CAs and settings. Costly to make (the system's CAs are some
/// hundred certificates), cheap to use. Immutable; engines of any thread may use it.
class Context {
 public:
  /// For clients. `ca_file`: PEM with the CAs to trust; empty: the system's.
  static Result<std::shared_ptr<const Context>> client(const std::string& ca_file);

  /// For servers. Both files PEM; the certificate's file may hold its chain.
  static Result<std::shared_ptr<const Context>> server(const std::string& certificate_file,
                                                       const std::string& key_file);

  /// For servers that nobody need trust: a key and a certificate for `name`, made now, valid for a
  /// day. Tests and load only.
  static Result<std::shared_ptr<const Context>> self_signed_server(const std::string& name);

  /// Both sides know `secret` and nobody else does: TLS 1.3 with a pre-shared key (RFC 8446 2.2),
  /// keys of the moment from Diffie-Hellman all the same, no certificate.
  static Result<std::shared_ptr<const Context>> pre_shared(const std::string& secret, bool server);

  [[nodiscard]] ssl_ctx_st* get() const { return context_.get(); }

 private:
  struct Free {
    void operator()(ssl_ctx_st* context) const;
  };
  explicit Context(ssl_ctx_st* context) : context_(context) {}

  std::unique_ptr<ssl_ctx_st, Free> context_;
  std::string key_;  ///< pre-shared; callbacks find it by the SSL_CTX's application data
};

}  // namespace poise::tls
