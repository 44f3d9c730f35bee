#include "tls/facts.h"

#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <memory>
#include <string_view>

namespace poise::tls {
namespace {

constexpr std::size_t kMaxNames = 32, kMaxTextBytes = 256;

std::string bounded(std::string_view text) {
  std::string out(text.substr(0, kMaxTextBytes));
  // Printable ASCII only: names of certificates are compared and shown, never interpreted.
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return out;
}

std::string name_text(const X509_NAME* name) {
  const std::unique_ptr<BIO, int (*)(BIO*)> bio(BIO_new(BIO_s_mem()), &BIO_free);
  // RFC 2253 escapes what is not printable ASCII.
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253);
  char* text = nullptr;
  const long length = BIO_ctrl(bio.get(), BIO_CTRL_INFO, 0, &text);
  return bounded(std::string_view(text, static_cast<std::size_t>(std::max(length, 0L))));
}

std::int64_t unix_time(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  return ::timegm(&parts);
}

std::vector<std::string> names_of(X509* certificate) {
  std::vector<std::string> names;
  const std::unique_ptr<GENERAL_NAMES, void (*)(GENERAL_NAMES*)> all(
      static_cast<GENERAL_NAMES*>(
          X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)),
      &GENERAL_NAMES_free);
  for (int i = 0; all && i < sk_GENERAL_NAME_num(all.get()) && names.size() < kMaxNames; ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(all.get(), i);
    if (name->type != GEN_DNS && name->type != GEN_IPADD) continue;
    const ASN1_STRING* const value = name->type == GEN_DNS ? name->d.dNSName : name->d.iPAddress;
    const auto* const data = ASN1_STRING_get0_data(value);
    const auto size = static_cast<std::size_t>(ASN1_STRING_length(value));
    if (name->type == GEN_DNS) {
      names.push_back(bounded({reinterpret_cast<const char*>(data), size}));
    } else if (size == 4 || size == 16) {
      char text[INET6_ADDRSTRLEN] = "";
      ::inet_ntop(size == 4 ? AF_INET : AF_INET6, data, text, sizeof text);
      names.emplace_back(text);
    }
  }
  return names;
}

std::string fingerprint_of(const X509* certificate) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  std::string text;
  if (X509_digest(certificate, EVP_sha256(), digest.data(), &size) != 1) return text;
  for (unsigned i = 0; i < size; ++i) {
    text.push_back(kHex[digest[i] >> 4]);
    text.push_back(kHex[digest[i] & 15]);
  }
  return text;
}

}  // namespace

TlsFacts facts_of(ssl_st* ssl) {
  TlsFacts facts;
  facts.protocol = SSL_get_version(ssl);
  facts.cipher = SSL_get_cipher_name(ssl);
  const long result = SSL_get_verify_result(ssl);
  X509* const certificate = SSL_get0_peer_certificate(ssl);
  facts.verified = result == X509_V_OK && certificate != nullptr;
  facts.verify_result = certificate == nullptr ? "no certificate"
                        : facts.verified       ? "ok"
                                               : X509_verify_cert_error_string(result);
  if (certificate == nullptr) return facts;
  facts.subject = name_text(X509_get_subject_name(certificate));
  facts.issuer = name_text(X509_get_issuer_name(certificate));
  facts.names = names_of(certificate);
  facts.not_before = unix_time(X509_get0_notBefore(certificate));
  facts.not_after = unix_time(X509_get0_notAfter(certificate));
  facts.fingerprint = fingerprint_of(certificate);
  const STACK_OF(X509)* const chain = SSL_get_peer_cert_chain(ssl);
  facts.chain_length = chain != nullptr ? static_cast<unsigned>(sk_X509_num(chain)) : 0;
  return facts;
}

}  // namespace poise::tls
