#include "loadgen/server/intake.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace poise::loadgen {

bool Intake::accept(std::string_view id, std::uint64_t bytes) {
  if (books_.ledger && !id.empty()) {
    books_.ledger.add(id);
    if (!books_.ledger.flush()) {
      if (!books_.write_failed) {
        fmt::print(stderr,
                   "poise-load: ledger: {}; messages are answered 451 until it can be written\n",
                   std::strerror(errno));
      }
      books_.write_failed = true;
      return false;
    }
    books_.write_failed = false;
  }
  ++tally_.messages;
  tally_.message_bytes += bytes;
  if (id.empty())
    ++tally_.without_id;
  else if (books_.ids.add(id) == IdSet::Added::again)
    ++tally_.duplicates;
  return true;
}

}  // namespace poise::loadgen
