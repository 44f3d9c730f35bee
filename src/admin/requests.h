#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "admin/json.h"
#include "control/control.h"

namespace poise::admin {

/// Who asks: the other end of the control socket, or a reader of the pages.
struct Caller {
  std::string user;
  bool admin = false;  ///< may change things
};

/// Answers requests such as {"command": "drain", "target": "mx/mx1", "over": "30m"} with
/// {"ok": true, "result": ...} or {"ok": false, "error": "...", "code": 1 or 2}: 1 refused, 2 not
/// understood, as poisectl exits. Any thread.
class Requests {
 public:
  using Answer = std::function<void(Json)>;

  explicit Requests(control::Control& control) : control_(control) {}

  /// `answer` is called once, from this thread or control's; never when control has ended.
  void handle(const Json& request, const Caller& caller, Answer answer);
  /// The text of a line; see above for the rest.
  void handle_line(const std::string& line, const Caller& caller, Answer answer);

  /// A command of the program's own, beside those that every poised has; `run` is called in
  /// control's thread. Before the first request.
  using Own = std::function<void(control::Commands&, const Json& request, const Caller&, Answer)>;
  void add(std::string name, Own run) { own_[std::move(name)] = std::move(run); }

  /// The commands that every poised has, for messages and completion.
  [[nodiscard]] static std::vector<std::string> commands();

  [[nodiscard]] control::Control& control() { return control_; }

 private:
  control::Control& control_;
  std::map<std::string, Own> own_;
};

}  // namespace poise::admin
