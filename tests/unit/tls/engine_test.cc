// The engine against OpenSSL's own server side, byte by byte and whole; and against what is no TLS.
#include "tls/engine.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

namespace poise::tls {
namespace {

template <auto Function>
struct Call {
  template <class T>
  void operator()(T* thing) const {
    Function(thing);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Call<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Call<X509_free>>;

/// A self-signed certificate for mx1.test, valid from `from` to `to` seconds after now.
struct Identity {
  Key key{EVP_EC_gen("P-256")};
  Certificate certificate{X509_new()};

  Identity(long from, long to) {
    X509* const x = certificate.get();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
    X509_gmtime_adj(X509_getm_notBefore(x), from);
    X509_gmtime_adj(X509_getm_notAfter(x), to);
    X509_set_pubkey(x, key.get());
    X509_NAME* const name = X509_get_subject_name(x);
    const auto* const text = reinterpret_cast<const unsigned char*>("mx1.test");
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, text, -1, -1, 0);
    X509_set_issuer_name(x, name);
    X509_EXTENSION* const names =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "DNS:mx1.test,IP:192.0.2.1");
    X509_add_ext(x, names, -1);
    X509_EXTENSION_free(names);
    X509_sign(x, key.get(), EVP_sha256());
  }

  [[nodiscard]] std::string write_ca() const {
    std::string path =
        std::filesystem::temp_directory_path() / ("poise-ca-" + std::to_string(::getpid()));
    std::FILE* const file = std::fopen(path.c_str(), "w");
    PEM_write_X509(file, certificate.get());
    std::fclose(file);
    return path;
  }
};

/// The other side, by OpenSSL alone.
class Server {
 public:
  explicit Server(const Identity& identity) : context_(SSL_CTX_new(TLS_server_method())) {
    SSL_CTX_use_certificate(context_.get(), identity.certificate.get());
    SSL_CTX_use_PrivateKey(context_.get(), identity.key.get());
    ssl_.reset(SSL_new(context_.get()));
    in_ = BIO_new(BIO_s_mem());
    out_ = BIO_new(BIO_s_mem());
    BIO_ctrl(in_, BIO_C_SET_BUF_MEM_EOF_RETURN, -1, nullptr);
    SSL_set_bio(ssl_.get(), in_, out_);
    SSL_set_accept_state(ssl_.get());
  }
  void receive(std::string_view bytes) {
    BIO_write(in_, bytes.data(), static_cast<int>(bytes.size()));
    if (SSL_do_handshake(ssl_.get()) != 1) return;
    char buffer[4096];
    std::size_t size = 0;
    while (SSL_read_ex(ssl_.get(), buffer, sizeof buffer, &size) == 1) heard.append(buffer, size);
  }
  void say(std::string_view words) {
    std::size_t written = 0;
    SSL_write_ex(ssl_.get(), words.data(), words.size(), &written);
  }
  void close() { SSL_shutdown(ssl_.get()); }
  std::string take() {
    char* data = nullptr;
    const long size = BIO_ctrl(out_, BIO_CTRL_INFO, 0, &data);
    std::string bytes(data, static_cast<std::size_t>(size));
    BIO_ctrl(out_, BIO_CTRL_RESET, 0, nullptr);
    return bytes;
  }
  [[nodiscard]] std::string server_name() const {
    const char* const name = SSL_get_servername(ssl_.get(), TLSEXT_NAMETYPE_host_name);
    return name != nullptr ? name : "";
  }
  [[nodiscard]] bool told_goodbye() const {
    return (SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN) != 0;
  }

  std::string heard;

 private:
  std::unique_ptr<SSL_CTX, Call<SSL_CTX_free>> context_;
  std::unique_ptr<SSL, Call<SSL_free>> ssl_;
  BIO* in_;
  BIO* out_;
};

std::string taken(Engine& engine) {
  std::string bytes;
  engine.take_ciphertext(bytes);
  return bytes;
}

std::string plaintext(Engine& engine) {
  std::string bytes;
  engine.take_plaintext(bytes);
  return bytes;
}

void receive(Engine& engine, std::string_view bytes, std::size_t piece) {
  for (; !bytes.empty(); bytes.remove_prefix(std::min(piece, bytes.size())))
    engine.receive(bytes.substr(0, piece));
}

void shake_hands(Engine& engine, Server& server, std::size_t piece = 100000) {
  engine.start();
  for (int turn = 0; turn < 5; ++turn) {
    server.receive(taken(engine));
    receive(engine, server.take(), piece);
  }
}

std::shared_ptr<const Context> context(const std::string& ca_file = {}) {
  return *Context::client(ca_file);
}

const Address kAddress = *Address::from_ip("192.0.2.1", 25);

TEST(Engine, talks_in_any_pieces_and_ends_in_order) {
  const Identity identity(-60, 3600);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{100000}}) {
    Server server(identity);
    Engine engine(context(), "mx1.test", kAddress);
    shake_hands(engine, server, piece);
    ASSERT_EQ(engine.state(), Engine::State::open) << engine.error();
    EXPECT_EQ(server.server_name(), "mx1.test");
    engine.send("EHLO a\r\n");
    server.receive(taken(engine));
    EXPECT_EQ(server.heard, "EHLO a\r\n");
    server.say("250 b\r\n");
    receive(engine, server.take(), piece);
    EXPECT_EQ(plaintext(engine), "250 b\r\n");
    server.say("221 bye\r\n");
    server.close();
    receive(engine, server.take(), piece);
    EXPECT_EQ(plaintext(engine), "221 bye\r\n");
    EXPECT_EQ(engine.state(), Engine::State::closed);
    engine.close();
    server.receive(taken(engine));
    EXPECT_TRUE(server.told_goodbye());
  }
}

TEST(Engine, facts_of_the_certificate) {
  const Identity identity(-60, 3600);
  Server server(identity);
  Engine engine(context(), "mx1.test", kAddress);
  shake_hands(engine, server);
  const TlsFacts facts = engine.facts();
  EXPECT_EQ(facts.protocol, "TLSv1.3");
  EXPECT_EQ(facts.subject, "CN=mx1.test");
  EXPECT_EQ(facts.issuer, "CN=mx1.test");
  EXPECT_EQ(facts.names, (std::vector<std::string>{"mx1.test", "192.0.2.1"}));
  EXPECT_EQ(facts.chain_length, 1u);
  EXPECT_NEAR(static_cast<double>(facts.not_after), static_cast<double>(std::time(nullptr) + 3600),
              5);
  EXPECT_EQ(facts.fingerprint.size(), 64u);
  EXPECT_FALSE(facts.verified);
  EXPECT_EQ(facts.verify_result, "self-signed certificate");
}

TEST(Engine, verifies_ca_name_and_date_and_goes_on) {
  struct Case {
    const char* name;
    const char* address;
    long to;
    std::string result;
  };
  for (const Case& c :
       {Case{"mx1.test", "192.0.2.9", 3600, "ok"}, Case{"MX1.test", "192.0.2.9", 3600, "ok"},
        Case{"", "192.0.2.1", 3600, "ok"}, Case{"192.0.2.1", "192.0.2.9", 3600, "ok"},
        Case{"mx2.test", "192.0.2.1", 3600, "hostname mismatch"},
        Case{"", "192.0.2.9", 3600, "IP address mismatch"},
        Case{"mx1.test", "192.0.2.1", -30, "certificate has expired"}}) {
    const Identity identity(-60, c.to);
    const std::string ca = identity.write_ca();
    Server server(identity);
    Engine engine(context(ca), c.name, *Address::from_ip(c.address, 25));
    shake_hands(engine, server);
    EXPECT_EQ(engine.state(), Engine::State::open) << "verification never ends a handshake";
    EXPECT_EQ(engine.facts().verify_result, c.result) << c.name;
    EXPECT_EQ(engine.facts().verified, c.result == "ok");
    std::filesystem::remove(ca);
  }
}

TEST(Engine, says_what_a_server_without_tls_said) {
  Engine engine(context(), "", kAddress);
  engine.start();
  engine.receive("220 mx1 ESMTP\r\nmore");
  EXPECT_EQ(engine.state(), Engine::State::failed);
  EXPECT_EQ(engine.error(), "plaintext instead of a TLS handshake: 220 mx1 ESMTP");
}

TEST(Engine, garbage_and_alerts_are_sentences) {
  for (const auto& [bytes, words] :
       {std::pair{std::string("\x15\x03\x03\x00\x02\x02\x28", 7), "handshake failure"},
        std::pair{std::string("\x16\x03\x03\x00\x04", 5) + "abcd", "TLS handshake: "},
        std::pair{std::string("\x16\xff\xff\xff\xff", 5) + std::string(70000, 'x'),
                  "TLS handshake: "}}) {
    Engine engine(context(), "", kAddress);
    engine.start();
    receive(engine, bytes, 3);
    EXPECT_EQ(engine.state(), Engine::State::failed);
    EXPECT_NE(engine.error().find(words), std::string::npos) << engine.error();
  }
}

TEST(Engine, plaintext_that_nobody_takes_is_bounded) {
  const Identity identity(-60, 3600);
  Server server(identity);
  Engine engine(context(), "", kAddress);
  shake_hands(engine, server);
  const std::string much(16000, 'x');
  for (int i = 0; i < 20 && engine.state() == Engine::State::open; ++i) {
    server.say(much);
    engine.receive(server.take());
  }
  EXPECT_EQ(engine.state(), Engine::State::failed);
  EXPECT_LE(plaintext(engine).size(), Engine::kMaxPendingBytes);
}

TEST(Context, a_missing_ca_file_is_an_error_that_names_it) {
  const auto made = Context::client("/nonexistent/ca.pem");
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().text().find("/nonexistent/ca.pem"), std::string::npos);
}

}  // namespace
}  // namespace poise::tls
