// Any bytes as a greeting: once judged, more bytes never change the judgement, and none is put off
// beyond the bound.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mail/greeting.h"
#include "poise/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace poise;
  if (size < 1) return 0;
  const auto protocol = static_cast<Protocol>(data[0] % kProtocolNames.size());
  const std::string_view all(reinterpret_cast<const char*>(data) + 1, size - 1);
  mail::GreetingScan first;
  const std::size_t end = std::min<std::size_t>(all.size(), mail::kMaxGreetingLineBytes + 2);
  for (std::size_t had = 0; had <= end; had = had < 64 ? had + 1 : had * 2) {
    const mail::GreetingScan scan = mail::scan_greeting(protocol, all.substr(0, had));
    CHECK(scan.line.find('\n') == std::string_view::npos);
    CHECK(scan.line.size() <= mail::kMaxGreetingLineBytes);
    if (first.decided) {
      CHECK(scan.decided && scan.kind == first.kind);
    } else {
      first = scan;
    }
    const std::string_view name = mail::greeting_name(protocol, scan.line);
    CHECK(name.size() <= scan.line.size() && name.find(' ') == std::string_view::npos);
  }
  if (all.size() > mail::kMaxGreetingLineBytes + 1)
    CHECK(mail::scan_greeting(protocol, all).decided);
  return 0;
}
