#pragma once

#include "poise/protocol.h"

namespace poise::loadgen {

/// smtps is submission, imaps is imap, pop3s is pop3: once TLS is there they speak alike.
constexpr Protocol language_of(Protocol protocol) {
  switch (protocol) {
    case Protocol::smtps:
      return Protocol::submission;
    case Protocol::imaps:
      return Protocol::imap;
    case Protocol::pop3s:
      return Protocol::pop3;
    case Protocol::smtp:
    case Protocol::submission:
    case Protocol::lmtp:
    case Protocol::imap:
    case Protocol::pop3:
    case Protocol::managesieve:
    case Protocol::tcp:
      break;
  }
  return protocol;
}

constexpr bool is_smtp(Protocol protocol) {
  return protocol == Protocol::smtp || protocol == Protocol::submission ||
         protocol == Protocol::smtps || protocol == Protocol::lmtp;
}

}  // namespace poise::loadgen
