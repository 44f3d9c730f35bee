#pragma once

#include <nlohmann/json.hpp>

#include <string>

#include "net/fd.h"
#include "poise/result.h"

namespace poise::ctl {

using Json = nlohmann::ordered_json;

/// One connection to the control socket of poised; connects when first needed. Blocking.
class Client {
 public:
  explicit Client(std::string path) : path_(std::move(path)) {}

  /// What the daemon answered, {"ok": ...}; an error when there is no daemon to answer.
  Result<Json> ask(const Json& request);

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  Result<void> connect();

  std::string path_;
  net::Fd fd_;
  std::string in_;
};

}  // namespace poise::ctl
