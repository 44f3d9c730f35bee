#include "tls/context.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>
#include <cstring>
#include <memory>
#include <string_view>

#include "tls/errors.h"

namespace poise::tls {
namespace {

/// What both sides want of OpenSSL.
void set_up(SSL_CTX* context) {
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  // A peer that closes without close_notify is an end like any other here: the mail protocols say
  // by themselves what is complete.
  SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
struct FreeCertificate {
  void operator()(X509* certificate) const { X509_free(certificate); }
};
using Certificate = std::unique_ptr<X509, FreeCertificate>;

/// Empty when OpenSSL could not.
Certificate sign_for_itself(EVP_PKEY* key, const std::string& name) {
  constexpr long kVersion3 = 2;
  constexpr long kSecondsValid = 86400;
  Certificate certificate(X509_new());
  if (!certificate) return {};
  X509_set_version(certificate.get(), kVersion3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), kSecondsValid);
  X509_set_pubkey(certificate.get(), key);
  X509_NAME* const subject = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(name.data()),
                             static_cast<int>(name.size()), -1, 0);
  X509_set_issuer_name(certificate.get(), subject);
  if (X509_sign(certificate.get(), key, EVP_sha256()) == 0) return {};
  return certificate;
}

// ---- pre-shared keys

constexpr const char* kIdentity = "poise-pair";
constexpr std::array<unsigned char, 2> kAes128GcmSha256{0x13, 0x01};

/// A session that both sides could have resumed: what OpenSSL makes of an external key.
SSL_SESSION* session_of(SSL* ssl) {
  const auto* key = static_cast<const std::string*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), 0));
  const SSL_CIPHER* const cipher = SSL_CIPHER_find(ssl, kAes128GcmSha256.data());
  SSL_SESSION* const session = SSL_SESSION_new();
  if (session != nullptr && cipher != nullptr &&
      SSL_SESSION_set1_master_key(session, reinterpret_cast<const unsigned char*>(key->data()),
                                  key->size()) == 1 &&
      SSL_SESSION_set_cipher(session, cipher) == 1 &&
      SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
    return session;
  SSL_SESSION_free(session);
  return nullptr;
}

int use_key(SSL* ssl, const EVP_MD*, const unsigned char** identity, std::size_t* size,
            SSL_SESSION** session) {
  *session = session_of(ssl);
  *identity = reinterpret_cast<const unsigned char*>(kIdentity);
  *size = std::strlen(kIdentity);
  return *session != nullptr ? 1 : 0;
}

int find_key(SSL* ssl, const unsigned char* identity, std::size_t size, SSL_SESSION** session) {
  const bool ours = std::string_view(reinterpret_cast<const char*>(identity), size) == kIdentity;
  *session = ours ? session_of(ssl) : nullptr;
  return 1;
}

}  // namespace

void Context::Free::operator()(ssl_ctx_st* context) const {
  SSL_CTX_free(context);
}

Result<std::shared_ptr<const Context>> Context::client(const std::string& ca_file) {
  ERR_clear_error();
  std::shared_ptr<Context> made(new Context(SSL_CTX_new(TLS_client_method())));
  SSL_CTX* const context = made->get();
  if (context == nullptr) return Error{"TLS", last_error()};
  set_up(context);
  const bool loaded = ca_file.empty()
                          ? SSL_CTX_set_default_verify_paths(context) == 1
                          : SSL_CTX_load_verify_locations(context, ca_file.c_str(), nullptr) == 1;
  if (!loaded)
    return Error{fmt::format("CA file {}", ca_file.empty() ? "(the system's)" : ca_file),
                 last_error()};
  return std::shared_ptr<const Context>(std::move(made));
}

Result<std::shared_ptr<const Context>> Context::server(const std::string& certificate_file,
                                                       const std::string& key_file) {
  ERR_clear_error();
  std::shared_ptr<Context> made(new Context(SSL_CTX_new(TLS_server_method())));
  SSL_CTX* const context = made->get();
  if (context == nullptr) return Error{"TLS", last_error()};
  set_up(context);
  if (SSL_CTX_use_certificate_chain_file(context, certificate_file.c_str()) != 1)
    return Error{fmt::format("certificate {}", certificate_file), last_error()};
  if (SSL_CTX_use_PrivateKey_file(context, key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1)
    return Error{fmt::format("key {}", key_file), last_error()};
  return std::shared_ptr<const Context>(std::move(made));
}

Result<std::shared_ptr<const Context>> Context::self_signed_server(const std::string& name) {
  ERR_clear_error();
  std::shared_ptr<Context> made(new Context(SSL_CTX_new(TLS_server_method())));
  SSL_CTX* const context = made->get();
  if (context == nullptr) return Error{"TLS", last_error()};
  set_up(context);
  const std::unique_ptr<EVP_PKEY, FreeKey> key(EVP_EC_gen("P-256"));
  const Certificate certificate = key ? sign_for_itself(key.get(), name) : Certificate{};
  if (!certificate || SSL_CTX_use_certificate(context, certificate.get()) != 1 ||
      SSL_CTX_use_PrivateKey(context, key.get()) != 1)
    return Error{fmt::format("a certificate for {}", name), last_error()};
  return std::shared_ptr<const Context>(std::move(made));
}

Result<std::shared_ptr<const Context>> Context::pre_shared(const std::string& secret, bool server) {
  ERR_clear_error();
  std::shared_ptr<Context> made(
      new Context(SSL_CTX_new(server ? TLS_server_method() : TLS_client_method())));
  SSL_CTX* const context = made->get();
  if (context == nullptr) return Error{"TLS", last_error()};
  set_up(context);
  // Any text makes a key of the cipher's size.
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int size = 0;
  if (EVP_Digest(secret.data(), secret.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1 ||
      SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1)
    return Error{"TLS", last_error()};
  made->key_.assign(reinterpret_cast<const char*>(digest.data()), size);
  SSL_CTX_set_ex_data(context, 0, &made->key_);
  if (server)
    SSL_CTX_set_psk_find_session_callback(context, find_key);
  else
    SSL_CTX_set_psk_use_session_callback(context, use_key);
  return std::shared_ptr<const Context>(std::move(made));
}

}  // namespace poise::tls
