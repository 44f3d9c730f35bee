#include "mail/client_hello.h"

namespace poise::mail {
namespace {

constexpr std::uint8_t kRecordHeader = 5, kMessageHeader = 4;
constexpr std::uint8_t kHandshake = 22, kMajorVersion = 3, kClientHello = 1;

}  // namespace

ClientHello::Status ClientHello::take(std::string_view bytes) {
  for (const char byte : bytes) {
    if (status_ == Status::complete) status_ = Status::beyond;
    if (status_ == Status::beyond) break;
    status_ =
        ++taken_ > kClientHelloBytesMax ? Status::beyond : step(static_cast<std::uint8_t>(byte));
  }
  return status_;
}

ClientHello::Status ClientHello::step(std::uint8_t byte) {
  if (record_header_ < kRecordHeader) {
    switch (record_header_++) {
      case 0:
        return byte == kHandshake ? Status::partial : Status::beyond;
      case 1:
        return byte == kMajorVersion ? Status::partial : Status::beyond;
      case 2:
        return Status::partial;
      case 3:
        record_left_ = static_cast<std::uint16_t>(byte << 8);
        return Status::partial;
      default:
        record_left_ = static_cast<std::uint16_t>(record_left_ | byte);
        return record_left_ == 0 ? Status::beyond : Status::partial;
    }
  }
  if (--record_left_ == 0) record_header_ = 0;
  if (message_header_ < kMessageHeader) {
    if (message_header_++ == 0) return byte == kClientHello ? Status::partial : Status::beyond;
    message_left_ = message_left_ << 8 | byte;
    return message_header_ == kMessageHeader && message_left_ == 0 ? Status::complete
                                                                   : Status::partial;
  }
  if (--message_left_ > 0) return Status::partial;
  return record_left_ == 0 ? Status::complete : Status::beyond;
}

}  // namespace poise::mail
