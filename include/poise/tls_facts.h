#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace poise {

/// What a finished TLS handshake tells about the peer. Texts come from the peer: printable and
/// bounded.
struct TlsFacts {
  std::string protocol;              ///< "TLSv1.3"
  std::string cipher;                ///< "TLS_AES_256_GCM_SHA384"
  std::string subject;               ///< "CN=mx1.example.org"
  std::string issuer;                ///< in the same form
  std::vector<std::string> names;    ///< DNS names and IP addresses it is valid for, 32 at most
  unsigned chain_length = 0;         ///< certificates sent
  std::int64_t not_before = 0;       ///< Unix seconds
  std::int64_t not_after = 0;        ///< Unix seconds
  std::string fingerprint;           ///< SHA-256 of the certificate, 64 hex digits
  bool verified = false;             ///< by the CA file or the system's CAs, and by name
  std::string verify_result = "ok";  ///< why not, in OpenSSL's words
};

}  // namespace poise
