#pragma once

#include <cstdint>
#include <string_view>

/// The beginning of a TLS connection as a relay sees it. Pure.
namespace poise::mail {

/// A ClientHello with its record headers that is longer is passed on and not kept.
inline constexpr std::uint32_t kClientHelloBytesMax = 32768;

/// Follows a client's first bytes on a TLS port up to the end of its ClientHello (RFC 8446 sections
/// 4.1.2 and 5.1: handshake message 1, perhaps over several records of type 22), so that it can be
/// replayed to another server. What comes after it (0-RTT data) never may be.
class ClientHello {
 public:
  enum class Status : std::uint8_t {
    partial,   ///< a ClientHello so far
    complete,  ///< all of it is there
    beyond,    ///< more came than a ClientHello, or it is too long, or it is none
  };

  /// Takes what the client sent, in any pieces. `beyond` is final.
  Status take(std::string_view bytes);
  [[nodiscard]] Status status() const { return status_; }
  [[nodiscard]] bool empty() const { return taken_ == 0; }

 private:
  Status step(std::uint8_t byte);

  std::uint32_t taken_ = 0;
  std::uint32_t message_left_ = 0;  ///< of the handshake message, once its length is known
  std::uint16_t record_left_ = 0;   ///< of the record
  std::uint8_t record_header_ = 0;  ///< bytes of it seen
  std::uint8_t message_header_ = 0;
  Status status_ = Status::partial;
};

}  // namespace poise::mail
