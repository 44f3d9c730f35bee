// Any bytes as the kernel's answers: bounded, no crash, and what is understood as a service or a
// destination is understood the same when it is said again in our own words.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ipvs/messages.h"
#include "poise/check.h"

namespace {

using namespace poise::ipvs;
using Kind = Change::Kind;

void try_service(std::span<const std::uint8_t> attributes) {
  const auto reply = decode_service(attributes);
  if (!reply) return;
  CHECK(reply->settings.scheduler.size() < 16);
  CHECK(!reply->key.text().empty());
  if (reply->settings.persistence && reply->settings.persistence->prefix == 0) return;
  const Change change{
      .kind = Kind::new_service, .service = reply->key, .settings = reply->settings};
  const auto again = decode_service(request_for(change).attributes);
  CHECK(again && again->key == reply->key && again->settings == reply->settings);
}

void try_destination(std::span<const std::uint8_t> attributes) {
  const auto reply = decode_destination(attributes, AF_INET);
  if (!reply || reply->destination.method == Method::other) return;
  const Change change{.kind = Kind::new_destination,
                      .service = ServiceKey::marked(1, AF_INET),
                      .address = reply->address,
                      .destination = reply->destination};
  const auto again = decode_destination(request_for(change).attributes, AF_INET6);
  CHECK(again && again->address == reply->address && again->destination == reply->destination);
}

void try_all(std::span<const std::uint8_t> attributes) {
  // What the kernel sends is aligned; a vector's bytes are, too.
  const std::vector<std::uint8_t> aligned(attributes.begin(), attributes.end());
  try_service(aligned);
  try_destination(aligned);
  (void)decode_timeouts(aligned);
  (void)decode_daemon(aligned);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(data, size);
  try_all(bytes);
  const std::vector<std::uint8_t> datagram(bytes.begin(), bytes.end());
  std::size_t messages = 0;
  for_each_message(datagram, [&](const Message& message) {
    ++messages;
    CHECK(message.error >= 0 && message.error <= 4095);
    try_all(message.attributes);
  });
  CHECK(messages <= size / 16);
  return 0;
}
