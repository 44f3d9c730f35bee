#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "command/draft.h"
#include "poise/result.h"

namespace poise {

/// What an importer made of somebody else's configuration.
struct Imported {
  Draft draft;
  /// What could not be carried over, or means something else here; each with its place.
  std::vector<std::string> left_out;
};

/// What those who read such a configuration share: the draft, and what is not in it. Pure.
class Importer {
 public:
  /// `file`: its name, which outlives the importer.
  explicit Importer(std::string_view file) : file_(file) {}

 protected:
  /// What stands on a line and is not carried over.
  void leave(unsigned line, std::string what) { left_.emplace_back(line, std::move(what)); }
  void leave(unsigned line, const std::vector<std::string>& words, std::string_view why);

  /// A client's address, all of it, stays with its server.
  static void stick_to_source(Draft::Pool& pool);

  /// All of it, once; an Error that says `nothing` when there is no service in it.
  Result<Imported> finish(std::string_view nothing);

  std::string_view file_;
  Draft draft_;
  std::vector<std::string> service_names_, pool_names_;

 private:
  std::vector<std::pair<unsigned, std::string>> left_;  ///< line, what
};

}  // namespace poise
