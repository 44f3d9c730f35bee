#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "command/balance_line.h"
#include "config/load.h"
#include "control/commands.h"

namespace poise {

/// The interactive commands of Inlab balance 3.57, in the process that serves. Words may be cut
/// short as balance takes them ("s" is show); answers are balance's, since scripts read them.
///
/// What changes a channel changes the command line that was given, and control reloads with it:
/// checked whole, no session is touched, all or nothing. Control's thread only.
class BalanceShell {
 public:
  explicit BalanceShell(BalanceLine line) : line_(std::move(line)) {}

  struct Reply {
    std::string text;    ///< for the terminal, with its newlines
    unsigned group = 0;  ///< the client's current group from now on
    enum class Then { go_on, quit, await_end } then = Then::go_on;  ///< of the client
  };
  struct Asker {
    std::string user;
    bool admin = false;  ///< may change things
    unsigned group = 0;  ///< current
  };

  /// What a reload takes: the channels as they are now.
  [[nodiscard]] config::LoadResult load() const;

  /// One line of input; `answer` is called once, now or when all workers know of it.
  void run(control::Commands& commands, const std::string& input, const Asker& asker,
           std::function<void(Reply)> answer);

  /// -a: who went down stays out until `enable`.
  void autodisable(control::Commands& commands, const std::string& backend);
  [[nodiscard]] const BalanceLine& line() const { return line_; }

 private:
  struct Counts {
    std::uint64_t sessions = 0, total = 0, sent = 0, received = 0;
  };
  using Place = std::pair<std::size_t, std::size_t>;  ///< group, channel
  /// What a channel counted up to here is not shown (reset), or is (assign: another server now).
  struct Since {
    Counts from;     ///< of the server, when it got the channel or was reset
    Counts carried;  ///< of the servers before it
  };
  struct Shown {
    std::string address;
    unsigned port = 0;
    bool enabled = false;
    Counts counts;
  };
  struct Turn;

  [[nodiscard]] Counts counted(const std::vector<control::BackendView>& views,
                               const Place& place) const;
  [[nodiscard]] Shown shown(const std::vector<control::BackendView>& views,
                            const Place& place) const;
  [[nodiscard]] std::string table(const control::Commands& commands) const;
  void change(Turn turn, BalanceLine next, std::string done);
  void switch_channel(Turn turn, bool enable);
  void create(Turn turn);
  void assign(Turn turn);
  void limit(Turn turn);
  void reset(Turn turn);
  void choose_by(Turn turn, bool hash);
  [[nodiscard]] std::string mrtg(const Turn& turn, bool bytes) const;

  BalanceLine line_;
  std::map<Place, Since> since_;
};

}  // namespace poise
