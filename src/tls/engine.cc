#include "tls/engine.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <new>

#include "poise/check.h"
#include "tls/errors.h"
#include "tls/facts.h"

namespace poise::tls {
namespace {

/// What a handshake's first byte may be: an alert or a handshake record (RFC 8446 5.1).
bool may_begin_tls(char first) {
  return first == 0x15 || first == 0x16;
}

std::string first_words(std::string_view bytes) {
  bytes = bytes.substr(0, std::min<std::size_t>(bytes.find('\n'), 80));
  if (bytes.ends_with('\r')) bytes.remove_suffix(1);
  std::string words(bytes);
  std::replace_if(
      words.begin(), words.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return words;
}

}  // namespace

std::string last_error() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "unknown error";
  // "certificate verify failed", "sslv3 alert handshake failure": the reason alone reads best.
  if (ERR_SYSTEM_ERROR(code)) {
    char text[256];
    ERR_error_string_n(code, text, sizeof text);
    return text;
  }
  const char* const reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : fmt::format("error {:#x}", code);
}

void Engine::Free::operator()(ssl_st* ssl) const {
  SSL_free(ssl);
}

Engine::Engine(std::shared_ptr<const Context> context, const std::string& server_name,
               const Address& address)
    : context_(std::move(context)), ssl_(SSL_new(context_->get())) {
  make_buffers();
  SSL_set_connect_state(ssl_.get());
  // With SSL_VERIFY_NONE a client verifies all the same and goes on: the result is a fact.
  SSL_set_verify(ssl_.get(), SSL_VERIFY_NONE, nullptr);
  X509_VERIFY_PARAM* const verify = SSL_get0_param(ssl_.get());
  if (server_name.empty()) {
    X509_VERIFY_PARAM_set1_ip(verify, address.ip.data(), address.is_v4() ? 4 : 16);
  } else if (Address::from_ip(server_name)) {
    X509_VERIFY_PARAM_set1_ip_asc(verify, server_name.c_str());  // RFC 6066 3: no literals in SNI
  } else {
    X509_VERIFY_PARAM_set_hostflags(verify, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    X509_VERIFY_PARAM_set1_host(verify, server_name.data(), server_name.size());
    std::string name = server_name;
    SSL_ctrl(ssl_.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name.data());
  }
}

Engine::Engine(std::shared_ptr<const Context> context)
    : context_(std::move(context)), ssl_(SSL_new(context_->get())) {
  make_buffers();
  SSL_set_accept_state(ssl_.get());
}

Engine::~Engine() = default;

void Engine::make_buffers() {
  if (!ssl_) throw std::bad_alloc();
  in_ = BIO_new(BIO_s_mem());
  out_ = BIO_new(BIO_s_mem());
  if (in_ == nullptr || out_ == nullptr) throw std::bad_alloc();
  BIO_ctrl(in_, BIO_C_SET_BUF_MEM_EOF_RETURN, -1, nullptr);  // empty means "later", not "over"
  SSL_set_bio(ssl_.get(), in_, out_);
}

void Engine::start() {
  advance();
}

void Engine::receive(std::string_view ciphertext) {
  if (state_ == State::failed || state_ == State::closed || ciphertext.empty()) return;
  if (!heard_ && !may_begin_tls(ciphertext[0]))
    return fail(fmt::format("plaintext instead of a TLS handshake: {}", first_words(ciphertext)));
  heard_ = true;
  while (!ciphertext.empty() && (state_ == State::handshaking || state_ == State::open)) {
    // A record at a time or so: what comes is decrypted before more of it is taken.
    const std::string_view piece = ciphertext.substr(0, 16384);
    const int taken = BIO_write(in_, piece.data(), static_cast<int>(piece.size()));
    if (taken != static_cast<int>(piece.size())) return fail("out of memory");
    ciphertext.remove_prefix(piece.size());
    advance();
  }
}

void Engine::advance() {
  ERR_clear_error();
  if (state_ == State::handshaking) {
    const int done = SSL_do_handshake(ssl_.get());
    if (done == 1) {
      state_ = State::open;
    } else if (const int why = SSL_get_error(ssl_.get(), done);
               why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
      if (BIO_ctrl_pending(in_) > kMaxPendingBytes) fail("a handshake without an end");
      return;
    } else {
      return fail(fmt::format("TLS handshake: {}", last_error()));
    }
  }
  std::array<char, 16384> buffer;
  while (state_ == State::open) {
    std::size_t read = 0;
    const int got = SSL_read_ex(ssl_.get(), buffer.data(), buffer.size(), &read);
    if (got == 1) {
      if (plaintext_.size() + read > kMaxPendingBytes) return fail("more than is taken");
      plaintext_.append(buffer.data(), read);
      continue;
    }
    const int why = SSL_get_error(ssl_.get(), got);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return;
    if (why == SSL_ERROR_ZERO_RETURN)
      state_ = State::closed;
    else
      fail(fmt::format("TLS: {}", last_error()));
  }
}

void Engine::take_ciphertext(std::string& out) {
  char* data = nullptr;
  const long size = BIO_ctrl(out_, BIO_CTRL_INFO, 0, &data);
  if (size <= 0) return;
  out.append(data, static_cast<std::size_t>(size));
  BIO_ctrl(out_, BIO_CTRL_RESET, 0, nullptr);
}

void Engine::take_plaintext(std::string& out) {
  out.append(plaintext_);
  plaintext_.clear();
}

void Engine::send(std::string_view plaintext) {
  CHECK(state_ != State::handshaking);
  while (!plaintext.empty() && state_ == State::open) {
    if (BIO_ctrl_pending(out_) > kMaxPendingBytes) return fail("more than is sent");
    std::size_t written = 0;
    ERR_clear_error();
    if (SSL_write_ex(ssl_.get(), plaintext.data(), plaintext.size(), &written) != 1)
      return fail(fmt::format("TLS: {}", last_error()));
    plaintext.remove_prefix(written);
  }
}

void Engine::close() {
  if (state_ != State::open && state_ != State::closed) return;
  ERR_clear_error();
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

void Engine::fail(std::string why) {
  state_ = State::failed;
  error_ = std::move(why);
}

TlsFacts Engine::facts() const {
  return facts_of(ssl_.get());
}

}  // namespace poise::tls
