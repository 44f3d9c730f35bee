#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "log/names.h"
#include "poise/session_record.h"

namespace poise::log {

/// More tries than this of one session are not logged one by one: the first ones and the last, and
/// "+N" between.
inline constexpr std::size_t kTriesMax = 16;

/// A record as the log thread has it: `tries` holds at most kTriesMax, `tries_omitted` went before
/// the last of them.
struct SessionEnd {
  SessionRecord record;
  std::uint32_t tries_omitted = 0;
};

/// Writes session lines. Pure but for its cache of the current second; one per thread.
///
///   2026-11-21T18:50:17.123Z info session id=7 client=192.0.2.1:4711 service=smtp vip=192.0.2.9:25
///   backend=mx3 src=10.0.0.1:3999 dst=10.0.0.13:25 tries=mx1:421"4.3.2 too busy",mx3:ok sticky=-
///   queue_s=0.000000 connect_s=0.000123 greeting_s=0.004000 total_s=0.230000 to_client=512
///   to_backend=4096 early=0 spoke_last=server state=relaying close_reason=client_closed
///
/// (one line), and ` refusal=REASON` at the end when close_reason is refused. A try is
/// NAME:WHAT"WORDS": WHAT is the outcome's name or, when the server answered with a three-digit
/// code, that code; WORDS is the rest of what it said, left out when empty. `tries=NAME:-` is a
/// first try that was not over when the session ended; `-` is no try. New words may be added at the
/// end; the order of the others is a contract (docs, DESIGN section 5).
class LineFormatter {
 public:
  /// Room that a line may need.
  static constexpr std::size_t kLineBytesMax = 16 * 1024;

  explicit LineFormatter(const NameTable& names) : names_(names) {}

  /// Each writes one line with its newline at `out`, which has room for kLineBytesMax; returns its
  /// end.
  [[nodiscard]] char* session_end(char* out, const SessionEnd& end);
  [[nodiscard]] char* session_start(char* out, const SessionStart& start);

 private:
  char* put_time(char* out, std::int64_t unix_us);

  const NameTable& names_;
  std::int64_t second_ = INT64_MIN;  ///< whose text is in second_text_
  char second_text_[20] = {};        ///< "2026-11-21T18:50:17."
};

/// Both are what inet_ntop would write, at a tenth of its price; exposed for their tests.
char* put_ip(char* out, const Address& address);
char* put_address(char* out, const Address& address);

}  // namespace poise::log
