/// The other box, as bad as it can be: first a greeting if the first byte says so, then anything,
/// in pieces. Whatever comes: no crash, bounded memory, and what decodes encodes to what decodes
/// the same.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "pair/protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace poise::pair;
  if (size < 2) return 0;
  const bool greeted = (data[0] & 1u) != 0;
  const std::size_t piece = data[1] == 0 ? size : data[1];
  std::string_view rest(reinterpret_cast<const char*>(data + 2), size - 2);
  if (const auto message = decode(rest)) {
    std::string again;
    encode(*message, again);
    const auto twice = decode(std::string_view(again).substr(4));
    if (message->index() != 0 && (!twice || *twice != *message)) std::abort();
  }
  Protocol box({.node = "lb1", .program = "0", .peer = "lb2", .epoch = 1});
  box.connected();
  if (greeted) {
    std::string hello;
    encode(Hello{.node = "lb2", .program = "0", .epoch = 2, .heard_epoch = 1, .heard = 0}, hello);
    if (!box.receive(hello)) std::abort();
    box.push(Verdict{.backend = "mx/mx1", .up = true});
  }
  while (!rest.empty()) {
    const std::string_view now = rest.substr(0, piece);
    if (!box.receive(now)) return 0;
    rest.remove_prefix(now.size());
    static_cast<void>(box.take_events());
  }
  return 0;
}
