#include "health/foreground.h"

#include <ev.h>

#include <functional>
#include <memory>

namespace poise::health {

std::vector<ProbeResult> run_probes(const std::vector<ProbeRequest>& requests,
                                    std::size_t parallel) {
  const std::unique_ptr<struct ev_loop, void (*)(struct ev_loop*)> loop(::ev_loop_new(EVFLAG_AUTO),
                                                                        &::ev_loop_destroy);
  std::vector<ProbeResult> results(requests.size());
  Prober prober(loop.get());
  std::size_t next = 0;
  std::function<void()> start_next = [&] {
    if (next == requests.size()) return;
    const std::size_t number = next++;
    prober.start(requests[number], [&, number](const ProbeResult& result) {
      results[number] = result;
      start_next();
    });
  };
  for (std::size_t i = 0; i < parallel; ++i) start_next();
  ::ev_run(loop.get(), 0);
  return results;
}

}  // namespace poise::health
