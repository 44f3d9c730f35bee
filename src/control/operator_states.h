#pragma once

#include <map>
#include <optional>
#include <string>

#include "control/backend_table.h"
#include "control/bans.h"
#include "poise/result.h"

namespace poise::control {

/// What operators have decided about backends ("pool/name"), services ("name") and whom to ban,
/// kept apart from the configuration: it survives reloads, the removal and return of a backend, and
/// restarts. Control thread only.
///
/// The file is text, one decision a line, fields parted by tabs and %-escaped; the first line names
/// its version. It is written to a new file that takes the old one's place, so a crash leaves one
/// or the other.
class OperatorStates {
 public:
  struct State {
    AdminState admin;
    std::optional<unsigned> weight;
    /// The configured weight that `weight` was set against: another one in the file undoes it.
    unsigned weight_configured = 1;
    /// When any of it was decided: the later decision of the two boxes of a pair wins.
    WallTime changed{};
  };

  /// A folder that isn't there, or an empty path, keeps nothing.
  explicit OperatorStates(std::string path) : path_(std::move(path)) {}

  /// No file is no error. A file that can't be read whole is one, and nothing of it is taken.
  Result<void> load();
  [[nodiscard]] Result<void> save() const;

  [[nodiscard]] const State* find(const std::string& name) const;
  /// "Enabled, as configured" is a decision like any other: without it the other box of a pair, or
  /// an old file, would know better.
  void set(const std::string& name, State state);
  [[nodiscard]] const std::map<std::string, State>& all() const { return states_; }

  [[nodiscard]] Bans& bans() { return bans_; }
  [[nodiscard]] const Bans& bans() const { return bans_; }

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::map<std::string, State> states_;
  Bans bans_;
};

}  // namespace poise::control
