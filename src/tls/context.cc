#include "tls/context.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "tls/errors.h"

namespace poise::tls {

void Context::Free::operator()(ssl_ctx_st* context) const {
  SSL_CTX_free(context);
}

Result<std::shared_ptr<const Context>> Context::client(const std::string& ca_file) {
  ERR_clear_error();
  std::shared_ptr<Context> made(new Context(SSL_CTX_new(TLS_client_method())));
  SSL_CTX* const context = made->get();
  if (context == nullptr) return Error{"TLS", last_error()};
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  // A peer that closes without close_notify is an end like any other here: the mail protocols say
  // by themselves what is complete.
  SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  const bool loaded = ca_file.empty()
                          ? SSL_CTX_set_default_verify_paths(context) == 1
                          : SSL_CTX_load_verify_locations(context, ca_file.c_str(), nullptr) == 1;
  if (!loaded)
    return Error{fmt::format("CA file {}", ca_file.empty() ? "(the system's)" : ca_file),
                 last_error()};
  return std::shared_ptr<const Context>(std::move(made));
}

}  // namespace poise::tls
