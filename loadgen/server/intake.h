#pragma once

#include <cstdint>
#include <string>

#include "loadgen/ledger/id_set.h"
#include "loadgen/ledger/ledger_file.h"
#include "loadgen/server/dialogue.h"

namespace poise::loadgen {

/// What one server counted.
struct ServerTally {
  std::uint64_t sessions = 0;  ///< accepted
  std::uint64_t active = 0;
  std::uint64_t finished = 0;  ///< ended with QUIT or LOGOUT
  std::uint64_t broken =
      0;  ///< ended without: closed or reset by the client, timed out, or cut by a fault
  std::uint64_t messages = 0;  ///< taken in
  std::uint64_t served = 0;    ///< handed out (RETR, FETCH of a body)
  std::uint64_t message_bytes = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t duplicates =
      0;  ///< ids that had arrived before, here or at a server of the same process
  std::uint64_t without_id = 0;
  std::uint64_t proxied = 0;    ///< sessions that began with a PROXY header
  std::uint64_t proxy_bad = 0;  ///< sessions that did not, where one is demanded, or with a bad one
  std::uint64_t tls = 0;        ///< TLS handshakes completed
  std::uint64_t tls_failed = 0;  ///< and those that were not
  bool died = false;
};

/// The books shared by the servers of one process.
struct Books {
  IdSet ids;
  LedgerFile ledger;
  bool write_failed = false;  ///< said once
};

/// Takes messages into the books: first the ledger, then the count, then the dialogue says 250.
class Intake : public MessageSink {
 public:
  Intake(Books& books, ServerTally& tally) : books_(books), tally_(tally) {}
  bool accept(std::string_view id, std::uint64_t bytes) override;

 private:
  Books& books_;
  ServerTally& tally_;
};

}  // namespace poise::loadgen
