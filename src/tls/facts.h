#pragma once

#include "poise/tls_facts.h"

struct ssl_st;

namespace poise::tls {

/// What is known of the peer after the handshake.
TlsFacts facts_of(ssl_st* ssl);

}  // namespace poise::tls
