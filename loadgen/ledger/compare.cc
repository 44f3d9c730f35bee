#include "loadgen/ledger/compare.h"

namespace poise::loadgen {
namespace {

bool next_id(std::istream& lines, std::string& id) {
  while (std::getline(lines, id)) {
    if (id.ends_with('\r')) id.pop_back();
    if (!id.empty()) return true;
  }
  return false;
}

}  // namespace

void LedgerComparison::add_sent(std::istream& lines) {
  std::string id;
  while (next_id(lines, id)) {
    const IdSet::Added added = sent_.add(id);
    if (added == IdSet::Added::untracked) ++untracked_;
    if (added == IdSet::Added::first) sent_texts_.push_back(id);
  }
}

void LedgerComparison::add_received(std::istream& lines) {
  std::string id;
  while (next_id(lines, id)) {
    const IdSet::Added added = received_.add(id);
    if (added == IdSet::Added::untracked) ++untracked_;
    if (added != IdSet::Added::again) continue;
    ++duplicated_;
    if (duplicated_examples_.size() < LedgerBalance::kExamples) duplicated_examples_.push_back(id);
  }
}

LedgerBalance LedgerComparison::balance() const {
  LedgerBalance result;
  result.accepted = sent_.size();
  result.received = received_.size();
  result.duplicated = duplicated_;
  result.duplicated_examples = duplicated_examples_;
  result.untracked = untracked_;
  for (const std::string& id : sent_texts_) {
    if (received_.contains(id)) continue;
    ++result.lost;
    if (result.lost_examples.size() < LedgerBalance::kExamples) result.lost_examples.push_back(id);
  }
  result.unconfirmed = result.received - (result.accepted - result.lost);
  return result;
}

}  // namespace poise::loadgen
