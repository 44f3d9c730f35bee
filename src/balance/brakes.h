#pragma once

#include <atomic>
#include <cstdint>

namespace poise::balance {

/// Keeps new sessions away from a backend that does not get to its greeting, before health has
/// noticed or where health will never agree (a server whose accept queue takes everybody and whose
/// processes are busy). Apart from health; see Pool for how little it may do: it never leaves a
/// pool without a candidate.
///
/// - *Pause*: three failures in a row before the greeting, from at least two client prefixes, keep
///   the backend out for 2 s, after each failed trial twice as long up to 30 s. Then one session is
///   the trial. A good greeting clears it.
/// - *Pending*: with kPendingMax sessions waiting for their greeting it gets no more while another
///   has fewer.
///
/// Shared by all workers; any thread. Times are milliseconds on any clock that all callers share.
class Brakes {
 public:
  static constexpr std::uint32_t kPendingMax = 32;
  static constexpr unsigned kFailuresMax = 3;
  static constexpr std::int64_t kPauseMinMs = 2'000, kPauseMaxMs = 30'000;

  /// A look: neither paused nor with too many waiting.
  [[nodiscard]] bool open(std::int64_t now_ms) const {
    return now_ms >= paused_until_ms_.load(std::memory_order_relaxed) &&
           pending_.load(std::memory_order_relaxed) < kPendingMax;
  }
  [[nodiscard]] bool paused(std::int64_t now_ms) const {
    return now_ms < paused_until_ms_.load(std::memory_order_relaxed);
  }

  /// Takes one of the kPendingMax turns, and where a pause is over the one trial that follows it;
  /// false: not open, or another session was quicker. Give the turn back with settled().
  [[nodiscard]] bool enter(std::int64_t now_ms);
  /// A turn although the brake is on: nobody else is left.
  void force() { pending_.fetch_add(1, std::memory_order_relaxed); }
  /// The session has its greeting, or has given up waiting.
  void settled() { pending_.fetch_sub(1, std::memory_order_relaxed); }

  void greeted() {
    if (streak_.load(std::memory_order_relaxed) != 0) clear();
  }
  /// A failure before the greeting that the client cannot have caused, met by a client of this
  /// prefix. The length of the pause that begins with it, in ms; 0: none.
  std::int64_t failed(std::uint32_t prefix_hash, std::int64_t now_ms);

  /// For a trial pick on a copy of a pool's state.
  void copy(const Brakes& from) {
    pending_ = from.pending_.load();
    streak_ = from.streak_.load();
    paused_until_ms_ = from.paused_until_ms_.load();
  }

  [[nodiscard]] std::uint32_t pending() const { return pending_.load(std::memory_order_relaxed); }

 private:
  void clear();

  std::atomic<std::uint32_t> pending_{0};
  std::atomic<std::uint64_t> streak_{0};          ///< a packed Streak
  std::atomic<std::int64_t> paused_until_ms_{0};  ///< 0: not paused
};

}  // namespace poise::balance
