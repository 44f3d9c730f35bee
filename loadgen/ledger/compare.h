#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

#include "loadgen/ledger/id_set.h"

namespace poise::loadgen {

/// The books of one test balanced: what clients were told is accepted against what servers took in.
struct LedgerBalance {
  static constexpr std::size_t kExamples = 10;

  std::uint64_t accepted = 0;    ///< distinct ids that a client got its 250 for
  std::uint64_t received = 0;    ///< distinct ids that arrived
  std::uint64_t lost = 0;        ///< accepted, but arrived nowhere
  std::uint64_t duplicated = 0;  ///< arrivals beyond the first of an id
  std::uint64_t unconfirmed =
      0;  ///< arrived, but no client saw the 250: no loss; a real MTA would send it again
  std::uint64_t untracked = 0;  ///< ids beyond IdSet's bound: the result is not exact
  std::vector<std::string> lost_examples;
  std::vector<std::string> duplicated_examples;

  [[nodiscard]] bool balanced() const { return lost == 0 && duplicated == 0 && untracked == 0; }
};

/// Collects both sides; order does not matter. Streams are read line by line, empty lines ignored.
class LedgerComparison {
 public:
  void add_sent(std::istream& lines);
  void add_received(std::istream& lines);
  [[nodiscard]] LedgerBalance balance() const;

 private:
  IdSet sent_;
  IdSet received_;
  std::vector<std::string> sent_texts_;  ///< to name the lost ones
  std::uint64_t duplicated_ = 0;
  std::uint64_t untracked_ = 0;
  std::vector<std::string> duplicated_examples_;
};

}  // namespace poise::loadgen
