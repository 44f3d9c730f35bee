#include "loadgen/report/tally.h"

#include <algorithm>

namespace poise::loadgen {

void Tally::note_straggler(const Straggler& straggler) {
  const auto slower = [](const Straggler& a, const Straggler& b) { return a.took > b.took; };
  if (stragglers.size() == kStragglers) {
    if (straggler.took <= stragglers.front().took) return;
    std::pop_heap(stragglers.begin(), stragglers.end(), slower);
    stragglers.pop_back();
  }
  stragglers.push_back(straggler);
  std::push_heap(stragglers.begin(), stragglers.end(), slower);
}

}  // namespace poise::loadgen
